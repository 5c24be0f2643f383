"""newcomer.wheel: the built wheel in an empty environment, outside the repository.

    python -m benchmarks.newcomer.wheel [--python python3.12 …]

For each Python of 3.11, 3.12 and 3.13 on this machine: in a new environment, `pip install` the wheel with dependencies
from the configured index; `thinkling run nano` has to name the missing extra before stage 1. Then install the wheel
with [curate]; nano has to finish. The value is the number of steps that fail; `runs` names the Pythons.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

PYTHONS = ("python3.11", "python3.12", "python3.13")


def clean_environment() -> dict[str, str]:
    """The environment variables, without any that would let Python find the repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def is_here(python: str) -> bool:
    """Whether the interpreter runs; a version manager may provide the name of one that is not installed."""
    found = shutil.which(python)
    return found is not None and subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0


def build(folder: Path) -> Path:
    """Builds the wheel from a copy of the committed files."""
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", str(source)], input=archive, check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder / "dist"), str(source)]
    subprocess.run(command, check=True, stdout=sys.stderr, env=clean_environment())
    return next((folder / "dist").glob("thinkling-*.whl"))


def try_it(python: str, wheel: Path, folder: Path) -> dict[str, Any]:
    """The steps on one Python, and whether each succeeded."""
    environment, elsewhere = folder / "environment", folder / "elsewhere"
    elsewhere.mkdir(parents=True)
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    binaries = environment / "bin"

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        print(python, *command[1:], flush=True)
        options: dict[str, Any] = {"cwd": elsewhere, "capture_output": True, "text": True, "env": clean_environment()}
        return subprocess.run([str(binaries / command[0]), *command[1:]], **options)

    installed = run("pip", "install", "--quiet", str(wheel))
    plain = run("thinkling", "run", "nano")
    named = plain.returncode == 2 and "thinkling[curate]" in plain.stderr and "[1/" not in plain.stderr
    extra = run("pip", "install", "--quiet", f"{wheel}[curate]")
    whole = run("thinkling", "run", "nano")
    version = run("python", "--version").stdout.strip()
    steps = {
        "installs": installed.returncode == 0,
        "names the extra": named,
        "installs with the extra": extra.returncode == 0,
        "runs nano": whole.returncode == 0 and (elsewhere / "runs" / "nano" / "summary.json").is_file(),
    }
    for result in (installed, extra, whole):
        if result.returncode:
            print(result.stderr[-3000:], file=sys.stderr, flush=True)
    return {"python": version, **steps}


def main() -> None:
    parser = argparse.ArgumentParser(description="the built wheel in empty environments")
    parser.add_argument("--python", nargs="*", default=PYTHONS, help="interpreters; those not installed are skipped")
    wanted = [name for name in parser.parse_args().python if is_here(name)]
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build(Path(temporary))
        for python in wanted:
            folder = Path(temporary) / Path(python).name
            runs.append(try_it(python, wheel, folder))
            print(runs[-1], flush=True)
            shutil.rmtree(folder)
    failed = [step for run in runs for step, went_well in run.items() if went_well is False]
    measurement = {"value": len(failed), "n": 4 * len(runs), "runs": runs, "unit": "failures"}
    print(json.dumps({"measurements": {"newcomer.wheel": measurement}}))


if __name__ == "__main__":
    main()
