"""Which stages run again when one number of the last RL stage changes.

    python -m benchmarks.exactness.redo

Runs recipes/nano.yaml, adds 1 to the steps of its last stage of kind `rl`, and runs it again. Earlier stages must
keep their artifacts untouched; that stage and everything that depends on it must have new ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import ROOT
from thinkling.pipeline.recipe import Recipe, load_recipe

RECIPE = ROOT / "recipes" / "nano.yaml"


def run(runs: Path, overrides: list[str]) -> None:
    """Runs `thinkling run` to completion."""
    command = [sys.executable, "-m", "thinkling", "run", str(RECIPE), "--runs", str(runs)]
    for override in overrides:
        command += ["--set", override]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)


def artifacts(folder: Path) -> dict[str, int]:
    """Artifact directory → time when its manifest was written (ns)."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*-*/manifest.json")}


def following(recipe: Recipe, name: str) -> set[str]:
    """The stage and everything that depends on it."""
    found = {name}
    for other, stage in recipe.stages.items():
        if found & set(stage.inputs.values()):
            found.add(other)
    return found


def main() -> None:
    recipe = load_recipe(RECIPE)
    last = [name for name, stage in recipe.stages.items() if stage.kind == "rl"][-1]
    wanted = following(recipe, last)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        run(runs, [])
        before = artifacts(runs / recipe.name)
        run(runs, [f"stages.{last}.steps={recipe.stages[last].model_dump()['steps'] + 1}"])
        after = artifacts(runs / recipe.name)
    touched = [name for name, written in before.items() if after.get(name) != written]
    redone = {name.rpartition("-")[0] for name in set(after) - set(before)}
    wrong = sorted(redone ^ wanted) + touched
    print(f"changed {last}; done again: {', '.join(sorted(redone))}", file=sys.stderr)
    measured = {"value": len(wrong), "n": len(recipe.stages), "runs": [wrong], "unit": "stages"}
    print(json.dumps({"measurements": {"exact.redo": measured}}))


if __name__ == "__main__":
    main()
