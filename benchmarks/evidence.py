"""What the scripts of B4, B8 and B9 share: they run `thinkling evidence` and read the evidence.json that it wrote."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def measure(experiment: str, seeds: str, description: str | None) -> dict[str, Any]:
    """Runs an experiment as the command line says, and gives its evidence.json."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--seeds", default=seeds, help="as in 0-7 or 0,3,5")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "thinkling", "evidence", experiment, "--seeds", arguments.seeds]
    command += ["--jobs", str(arguments.jobs), "--runs", str(arguments.runs.resolve())]
    subprocess.run(command, check=True, cwd=REPOSITORY, stdout=sys.stderr)
    path = arguments.runs.resolve() / f"evidence-{experiment}" / "evidence.json"
    return json.loads(path.read_text(encoding="utf-8"))


def over_seeds(comparison: dict[str, Any], unit: str) -> dict[str, Any]:
    """A comparison as a measurement: mean and t-interval over seeds, the differences as runs."""
    fields = {key: comparison[key] for key in ("low", "high", "n")}
    return {"value": comparison["mean"], **fields, "runs": comparison["differences"], "unit": unit}


def comparison(evidence: dict[str, Any], arm: str, against: str) -> dict[str, Any]:
    """The comparison of two arms."""
    (found,) = [c for c in evidence["comparisons"] if (c["arm"], c["against"]) == (arm, against)]
    return found


def arm(evidence: dict[str, Any], name: str) -> dict[str, Any]:
    """An arm's entry."""
    (found,) = [a for a in evidence["arms"] if a["name"] == name]
    return found


def report(measurements: dict[str, Any]) -> None:
    """Prints the last line that the harness reads."""
    print(json.dumps({"measurements": measurements}))
