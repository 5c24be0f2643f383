"""Runs `python -m experiments` and reads its experiment.json, for claims that are experiments."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT


def measure(experiment: str, seeds: str, description: str | None) -> dict[str, Any]:
    """Runs an experiment with the options of the command line and returns its experiment.json."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--seeds", default=seeds, help="such as 0-7 or 0,3,5")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "experiments", experiment, "--seeds", arguments.seeds]
    command += ["--jobs", str(arguments.jobs), "--runs", str(arguments.runs.resolve())]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    path = arguments.runs.resolve() / f"experiment-{experiment}" / "experiment.json"
    return json.loads(path.read_text(encoding="utf-8"))


def over_seeds(comparison: dict[str, Any], unit: str) -> dict[str, Any]:
    """A comparison as a measurement: mean and t-interval over seeds, with the differences as runs."""
    fields = {key: comparison[key] for key in ("low", "high", "n")}
    return {"value": comparison["mean"], **fields, "runs": comparison["differences"], "unit": unit}


def comparison(experiment: dict[str, Any], arm: str, against: str) -> dict[str, Any]:
    """The comparison of two arms."""
    (found,) = [c for c in experiment["comparisons"] if (c["arm"], c["against"]) == (arm, against)]
    return found


def arm(experiment: dict[str, Any], name: str) -> dict[str, Any]:
    """An arm's entry."""
    (found,) = [a for a in experiment["arms"] if a["name"] == name]
    return found


def report(measurements: dict[str, Any]) -> None:
    """Prints the last line, which the harness reads."""
    print(json.dumps({"measurements": measurements}))
