"""Heavy packages loaded by `thinkling --help`, and its wall time.

    python -m benchmarks.speed.startup

Median of 9 runs after a warm-up; the interval is from the 2nd to the 8th of them (96% for a median of 9).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
HEAVY = ("torch", "numpy", "pyarrow")
HELP = f"""
import json, sys
sys.argv = ["thinkling", "--help"]
from thinkling.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps({{"heavy": [name for name in {HEAVY!r} if name in sys.modules], "modules": len(sys.modules)}}))
"""


def help_seconds(environment: dict[str, str]) -> float:
    """Wall time of one start."""
    command = [str(Path(sys.executable).parent / "thinkling"), "--help"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def main() -> None:
    # As for a user: byte code is written once and kept.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    help_seconds(environment)
    seconds = sorted(help_seconds(environment) for _ in range(RUNS))
    loaded = subprocess.run(
        [sys.executable, "-c", HELP], check=True, capture_output=True, text=True, env=environment
    ).stdout
    inside = json.loads(loaded.splitlines()[-1])
    found = {
        "speed.help-imports": {"value": len(inside["heavy"]), "n": 1, "runs": 1, "unit": "packages", **inside},
        "speed.help-wall": {
            "value": statistics.median(seconds),
            "low": seconds[1],
            "high": seconds[-2],
            "n": RUNS,
            "runs": seconds,
            "unit": "seconds",
        },
    }
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
