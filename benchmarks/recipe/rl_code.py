"""Gain of tiny's code stage on held-out programs, over seeds of the whole run.

    python -m benchmarks.recipe.rl_code --seeds 0 1 2 --jobs 1

Reads the runs of recipes/tiny.yaml that tiny_story makes, or makes them. A program counts as right if all its tests
pass, including hidden ones. The score of a problem is its mean over k samples and all seeds; the interval is
bootstrapped over problems. Also stored: each seed's band, how programs failed, and the puzzles across the same stage.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.tiny_runs import artifact, finished_runs, rollouts
from thinkling.stats import bootstrap_interval

STAGE, BEFORE, AFTER = "rl_code", "evaluate_rl_stem", "evaluate_rl_code"
TASK_SET, KEPT = "programs", "puzzles"


def band(run: Path) -> dict[str, dict[str, int]]:
    """Source → number of problems whose pass rate was measured, and number that the band kept."""
    table = pq.read_table(artifact(run, STAGE) / "band.parquet", columns=["source", "kept"]).to_pylist()
    measured, kept = Counter(row["source"] for row in table), Counter(row["source"] for row in table if row["kept"])
    return {source: {"problems": n, "kept": kept[source]} for source, n in measured.items()}


def tiers(run: Path, stage: str) -> dict[str, int]:
    """Outcome and tier → number of samples; `wrong limits` are programs that exceeded a limit."""
    table = pq.read_table(artifact(run, stage) / "rollouts" / TASK_SET, columns=["outcome", "tier"]).to_pylist()
    return dict(sorted(Counter(f"{row['outcome']} {row['tier']}" for row in table).items()))


def gain(runs: list[Path], task_set: str) -> dict[str, Any]:
    """Per-problem difference over all seeds with its interval, and both scores per seed."""
    pairs = [(rollouts(run, BEFORE, task_set), rollouts(run, AFTER, task_set)) for run in runs]
    first = pairs[0][0]["ids"]
    assert all(list(part["ids"]) == list(first) for pair in pairs for part in pair)
    differences_SP = np.stack([after["per_problem"] - before["per_problem"] for before, after in pairs])
    low, high = bootstrap_interval(differences_SP.mean(axis=0))
    return {
        "value": float(differences_SP.mean()), "low": low, "high": high, "n": len(first), "unit": "avg@8",
        "runs": differences_SP.mean(axis=1).tolist(),
        "levels": [[float(part["per_problem"].mean()) for part in pair] for pair in pairs],
        "thinking": [[float(part["thinks"].mean()) for part in pair] for pair in pairs],
    }  # fmt: skip


def main() -> None:
    runs = finished_runs(__doc__)
    found = gain(runs, TASK_SET) | {
        "band": [band(run) for run in runs],
        "verdicts": [tiers(run, AFTER) for run in runs],
        "puzzles": gain(runs, KEPT),
    }
    print(json.dumps({"measurements": {"recipe.rl-code": found}}))


if __name__ == "__main__":
    main()
