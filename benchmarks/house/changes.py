"""How many files a contributor touches for each kind of change that CONTRIBUTING.md describes.

    python -m benchmarks.house.changes

tests/test_contributing.py makes every kind of change for real; `trials()` there names the files of each. Its tests have
to pass, or nothing is measured. The value is the number of files of the largest change. A stage, which CONTRIBUTING.md
says takes five files, is made by a test too, and is not counted.
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
