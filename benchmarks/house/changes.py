"""Number of files a contributor touches for each kind of change described in CONTRIBUTING.md.

    python -m benchmarks.house.changes

tests/test_contributing.py makes every kind of change for real, and its `trials()` lists the files of each. If its tests
fail, nothing is measured. The value is the number of files of the largest change. Adding a stage, which takes five
files according to CONTRIBUTING.md, is tested too but not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.machine import ROOT
from benchmarks.modules import load

TRIALS = ROOT / "tests" / "test_contributing.py"


def main() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TRIALS)]
    status = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    if status:
        raise SystemExit(f"{TRIALS.relative_to(ROOT)}: pytest ended with {status}; make its tests pass first")
    trials: dict[str, list[str]] = load(TRIALS).trials()
    for kind, touched in trials.items():
        print(f"{kind}: {', '.join(touched)}")
    largest = max(len(touched) for touched in trials.values())
    runs = [{"change": kind, "files": touched} for kind, touched in trials.items()]
    measured = {"value": largest, "n": len(trials), "runs": runs, "unit": "files"}
    print(json.dumps({"measurements": {"house.changes": measured}}))


if __name__ == "__main__":
    main()
