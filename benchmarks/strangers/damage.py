"""Damaged files of a run: `python -m benchmarks.strangers.damage [--trials 200]`.

recipes/nano.yaml runs once, and its unfinished stages are copied whenever one of their files is moved into place, which
is the state that a kill would leave. Each trial takes such a copy or the finished run, damages one file (cut, one bit
flipped, emptied, removed; size and time otherwise kept) and runs again. A trial passes if the artifacts are byte-equal
to those of the undamaged run, or if a one-line UserError names the damaged file (or the file whose digest it contains).
strangers.damage: trials that fail, with a traceback or by silently using other bytes. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.exactness.kill_resume import Report, compare
from benchmarks.machine import ROOT
from thinkling.data.seals import SUFFIX
from thinkling.errors import UserError
from thinkling.pipeline.environment import fix_environment
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.pipeline.runner import Run, execute

DAMAGES = ("cut", "flipped", "emptied", "removed")
FINISHED_SHARE = 0.25
"""Fraction of trials that damage a finished artifact; the others damage a killed stage."""
COPIES = 12
"""Number of copies kept per stage, spread over its duration."""


@contextmanager
def copying(run: Path, copies: Path) -> Iterator[None]:
    """Copies the unfinished stage to `copies/STAGE/NUMBER` after every rename or replacement in it."""
    replaced, renamed, count = os.replace, os.rename, Counter[str]()

    def copy(target: Any) -> None:
        inside = [part for part in Path(target).parts if part.endswith(".partial")]
        if inside and (run / inside[0]).is_dir():
            count[inside[0]] += 1
            shutil.copytree(run / inside[0], copies / inside[0] / f"{count[inside[0]]:06d}")

    def replace(source: Any, target: Any, **options: Any) -> None:
        replaced(source, target, **options)
        copy(target)

    def rename(source: Any, target: Any, **options: Any) -> None:
        renamed(source, target, **options)
        copy(target)

    os.replace, os.rename = replace, rename
    try:
        yield
    finally:
        os.replace, os.rename = replaced, renamed


def thinned(copies: Path) -> dict[str, list[Path]]:
    """Unfinished directory of a stage → up to `COPIES` copies, from few files to all; other copies are deleted."""
    found = {}
    for stage in sorted(copies.iterdir()):
        every = sorted(stage.iterdir())
        chosen = {every[i * (len(every) - 1) // max(1, COPIES - 1)] for i in range(COPIES)}
        for path in every:
            if path not in chosen:
                shutil.rmtree(path)
        found[stage.name] = sorted(chosen)
    return found


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Damages a file of at least one byte and keeps its modification time."""
    content, times = path.read_bytes(), path.stat()
    if kind == "removed":
        path.unlink()
        return
    if kind == "flipped":
        at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
    else:
        path.write_bytes(content[: rng.randrange(len(content)) if kind == "cut" else 0])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def damageable(directory: Path) -> list[Path]:
    """The files of a stage, except those that only contain times and speeds."""
    every = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    return [path for path in every if not path.name.endswith(".log.jsonl")]


class Trials:
    """A finished run of a recipe, and the intermediate states of its stages."""

    def __init__(self, recipe: Recipe, workspace: Path) -> None:
        self.recipe, self.workspace = recipe, workspace
        self.whole = workspace / "whole"
        run = Run(recipe, self.whole)
        with copying(run.directory, workspace / "copies"):
            run_all(run, None)
        self.copies = thinned(workspace / "copies")

    def trial(self, rng: random.Random) -> tuple[str, str | None]:
        """The damage done, and the problem with the outcome, if any."""
        root = self.workspace / "trial"
        shutil.rmtree(root, ignore_errors=True)
        run = Run(self.recipe, root)
        shutil.copytree(self.whole / self.recipe.name, run.directory, symlinks=True)
        kind = rng.choice(DAMAGES)
        if rng.random() < FINISHED_SHARE:
            directory = rng.choice(sorted(path.parent for path in run.directory.glob("*/manifest.json")))
            targets = None
        else:
            name = rng.choice(sorted(self.copies))
            stage = name.removesuffix(".partial").rpartition("-")[0]
            shutil.rmtree(run.directory / name.removesuffix(".partial"))
            directory = run.directory / name
            shutil.copytree(rng.choice(self.copies[name]), directory)
            targets = [stage]
        file = rng.choice(damageable(directory) or [directory / "nothing"])
        what = f"{kind} {file.relative_to(run.directory)}"
        if not file.exists():
            return what, None
        damage(file, kind, rng)
        return what, self.outcome(run, targets, file)

    def outcome(self, run: Run, targets: list[str] | None, damaged: Path) -> str | None:
        """Runs again; returns the problem with the outcome, or None."""
        name = damaged.name.removeprefix(".").removesuffix(SUFFIX) if damaged.name.endswith(SUFFIX) else damaged.name
        try:
            run_all(run, targets)
        except UserError as error:
            if "\n" in str(error) or str(damaged.parent) not in str(error) or name not in str(error):
                return f"the error does not name the file in one line: {error}"
            return None
        except Exception:
            return traceback.format_exc()
        whole, report = self.whole / run.recipe.name, Report()
        for stage in sorted(path.parent.name for path in whole.glob("*/manifest.json")):
            compare(whole / stage, run.directory / stage, report)
        differing = report.differing
        return f"other bytes: {', '.join(differing)}" if differing else None


def run_all(run: Run, targets: list[str] | None) -> None:
    """Runs as `thinkling run` and the stage commands do, without the report."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        execute(run, Console(file=nowhere), targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "nano.yaml")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    fix_environment(recipe.threads, "benchmarks.strangers.damage")
    failed: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(recipe, Path(folder))
        for number in range(arguments.trials):
            what, wrong = trials.trial(random.Random(f"{arguments.seed}/{number}"))
            if wrong is not None:
                failed.append(what)
            print(f"{number} {time.monotonic() - began:.0f} s {what}: {wrong or 'holds'}", file=sys.stderr)
    measurement = {
        "value": len(failed),
        "n": arguments.trials,
        "runs": [],
        "unit": "damages",
        "seconds": round(time.monotonic() - began),
        "failed": failed,
    }
    print(json.dumps({"measurements": {"strangers.damage": measurement}}))


if __name__ == "__main__":
    main()
