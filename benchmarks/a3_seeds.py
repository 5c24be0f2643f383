"""A3: overall SFT against cold start on the held-out puzzles, over seeds of the whole run.

    python -m benchmarks.a3_seeds --seeds 0 1 2

Runs recipes/tiny.yaml once a seed, then pairs the checkpoints problem by problem: a problem scores its mean over
k samples and seeds, the interval a bootstrap over problems (10,000 resamples, fixed seed).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).parents[1]
RECIPE = REPOSITORY / "recipes" / "tiny.yaml"
RESAMPLES = 10_000


def run_seed(seed: int, runs: Path) -> Path:
    """The folder of a finished run; what was done before is skipped. Seed 0 is `make tiny` itself, the other seeds
    run in one thread each, so that they can run beside each other."""
    name = f"tiny-seed{seed}" if seed else "tiny"
    command = [sys.executable, "-m", "thinkling", "run", str(RECIPE), "--runs", str(runs)]
    own = (f"seed={seed}", f"name={name}", "threads=1") if seed else ()
    for override in own:
        command += ["--set", override]
    subprocess.run(command, check=True, cwd=REPOSITORY, stdout=sys.stderr)
    return runs / name


def finished_runs(doc: str | None) -> list[Path]:
    """The runs of the seeds that the command line names, made where they are missing."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other; seed 0 has two threads")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        return list(pool.map(lambda seed: run_seed(seed, arguments.runs), arguments.seeds))


def artifact(run: Path, stage: str) -> Path:
    """The last finished artifact of a stage; `stage` is its full name."""
    manifests = list(run.glob(f"{stage}-????????/manifest.json"))
    return max(manifests, key=lambda p: p.stat().st_mtime).parent


def rollouts(run: Path, stage: str, task_set: str = "puzzles") -> dict[str, np.ndarray]:
    """Per problem (sorted by id): mean right over its samples, and the flat columns right and thinks."""
    table = pq.read_table(artifact(run, stage) / "rollouts" / task_set)
    right = np.array([outcome == "right" for outcome in table["outcome"].to_pylist()])
    thinks = np.array(table["thinks"].to_pylist())
    ids, inverse = np.unique(np.array(table["problem_id"].to_pylist()), return_inverse=True)
    per_problem = np.bincount(inverse, weights=right) / np.bincount(inverse)
    return {"ids": ids, "per_problem": per_problem, "right": right, "thinks": thinks}


def interval(per_problem: np.ndarray) -> tuple[float, float]:
    """95% bootstrap interval of the mean over problems."""
    rng = np.random.default_rng(0)
    means = [per_problem[rng.integers(0, len(per_problem), len(per_problem))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def measure(runs: Path, seeds: list[int], before: str, after: str) -> dict[str, Any]:
    """The three claims, over the seeds given."""
    parts = []
    for seed in seeds:
        run = run_seed(seed, runs)
        first, last = rollouts(run, before), rollouts(run, after)
        assert list(first["ids"]) == list(last["ids"])
        parts.append((first, last))
    difference = np.mean([b["per_problem"] - a["per_problem"] for a, b in parts], axis=0)
    level = np.mean([b["per_problem"] for _, b in parts], axis=0)
    shares = [float(b["thinks"].mean()) for _, b in parts]
    thinking = [float(b["right"][b["thinks"]].mean()) for _, b in parts]
    n = len(difference)

    def entry(per_problem: np.ndarray, per_seed: list[float], unit: str) -> dict[str, Any]:
        low, high = interval(per_problem)
        return {"value": float(per_problem.mean()), "low": low, "high": high, "n": n, "runs": per_seed, "unit": unit}

    gains = [float((b["per_problem"] - a["per_problem"]).mean()) for a, b in parts]
    return {
        "A3a": entry(difference, gains, "avg@8"),
        "A3b": entry(level, [float(b["per_problem"].mean()) for _, b in parts], "avg@8"),
        "A3c": {
            "value": float(np.mean(shares)), "low": min(shares), "high": max(shares), "n": len(seeds), "unit": "share",
            "runs": [{"thinking_share": s, "accuracy_thinking": t} for s, t in zip(shares, thinking, strict=True)],
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs")
    arguments = parser.parse_args()
    print(json.dumps({"measurements": measure(arguments.runs, arguments.seeds, "evaluate_cold", "evaluate_sft")}))


if __name__ == "__main__":
    main()
