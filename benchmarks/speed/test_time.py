"""Wall time of `make test` after set-up on two cores, and whether the linters pass.

python -m benchmarks.speed.test_time
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.machine import ROOT
from benchmarks.processes import two_cores

BIN = Path(sys.executable).parent
CHECKS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyright"], ["lint-imports", "--no-logo"])


def unclean() -> list[str]:
    """The checks that fail."""
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return [
        " ".join(check)
        for check in CHECKS
        if subprocess.run([str(BIN / check[0]), *check[1:]], cwd=ROOT, env=environment, stdout=sys.stderr).returncode
    ]


def main() -> None:
    cores = two_cores()
    subprocess.run(["make", "setup"], cwd=ROOT, check=True, stdout=sys.stderr)
    complaints = unclean()
    found: dict[str, dict[str, object]] = {
        "tests.lint": {"value": len(complaints), "n": len(CHECKS), "runs": 1, "unit": "checks", "unclean": complaints}
    }
    busy = psutil.cpu_percent(interval=5)
    began = time.monotonic()
    status = subprocess.run(["make", "test"], cwd=ROOT, stdout=sys.stderr).returncode
    minutes = (time.monotonic() - began) / 60
    if status == 0:  # the time of a failed test run is meaningless
        beside = {"cores": cores, "percent_busy_before": busy, "data": "THINKLING_DATA" in os.environ}
        found["tests.wall"] = {"value": minutes, "n": 1, "runs": [minutes], "unit": "minutes", **beside}
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
