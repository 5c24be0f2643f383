"""Finished runs of recipes/tiny.yaml, one per seed, and their scores, for claims over tiny's seeds.

The score of a problem is its mean over k samples and all seeds; intervals are bootstrapped over problems.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import ROOT

RECIPE = ROOT / "recipes" / "tiny.yaml"


def run_seed(seed: int, runs: Path) -> Path:
    """Runs what is missing and returns the run's folder. Seed 0 is `make tiny` itself; the other seeds use one
    thread each, so that they can run in parallel."""
    name = f"tiny-seed{seed}" if seed else "tiny"
    command = [sys.executable, "-m", "thinkling", "run", str(RECIPE), "--runs", str(runs)]
    own = (f"seed={seed}", f"name={name}", "threads=1") if seed else ()
    for override in own:
        command += ["--set", override]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    return runs / name


def finished_runs(doc: str | None, seeds: Sequence[int] = (0, 1, 2)) -> list[Path]:
    """The runs of the seeds named on the command line; missing ones are run first."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs; seed 0 uses two threads")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        return list(pool.map(lambda seed: run_seed(seed, arguments.runs), arguments.seeds))


def artifact(run: Path, stage: str) -> Path:
    """The last finished artifact of a stage; `stage` is its full name."""
    manifests = list(run.glob(f"{stage}-????????/manifest.json"))
    return max(manifests, key=lambda p: p.stat().st_mtime).parent


def rollouts(run: Path, stage: str, task_set: str = "puzzles") -> dict[str, np.ndarray]:
    """Per problem (sorted by id): mean of `right` over its samples; then the flat columns right and thinks."""
    table = pq.read_table(artifact(run, stage) / "rollouts" / task_set)
    right = np.array([outcome == "right" for outcome in table["outcome"].to_pylist()])
    thinks = np.array(table["thinks"].to_pylist())
    ids, inverse = np.unique(np.array(table["problem_id"].to_pylist()), return_inverse=True)
    per_problem = np.bincount(inverse, weights=right) / np.bincount(inverse)
    return {"ids": ids, "per_problem": per_problem, "right": right, "thinks": thinks}
