"""The stage rl_preference judged by a stated rule, never by its own reward model, over seeds of tiny.

    python -m benchmarks.recipe.rl_preference --seeds 0 1 2 [--runs DIR] [--jobs N]

Reads the runs of recipes/tiny.yaml that tiny_story makes, or makes them. The evaluations before and after the
stage use the same held-out prompts and random numbers. A sample wins if puzzles/writing.py grades it higher than its
counterpart; a tie counts half. (The verdict in the stage's reward checks the letters as the rule does, but not the
mark.) The score of a prompt is its mean over samples and seeds; the interval is bootstrapped
over prompts. Also stored: each seed's band, mean grades, and the puzzles across the same stage.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.tiny_runs import artifact, finished_runs, rollouts
from thinkling.stages.evaluate.grades import GradedSample, read_grades
from thinkling.stats import bootstrap_interval
from thinkling.verify.preference import win

BEFORE, AFTER = "evaluate_rl_code", "evaluate"
STAGE, TASK_SET, KEPT = "rl_preference", "writing", "puzzles"


def grades(run: Path, stage: str) -> list[GradedSample]:
    """The rule's grades of an evaluation's samples from the task set."""
    return read_grades(artifact(run, stage) / "grades" / f"{TASK_SET}.parquet")


def wins(before: list[GradedSample], after: list[GradedSample]) -> dict[str, float]:
    """Prompt → fraction of its samples won by the later model."""
    assert [(r.problem_id, r.sample) for r in before] == [(r.problem_id, r.sample) for r in after]
    each = [(b.problem_id, win(a.grade, b.grade)) for b, a in zip(before, after, strict=True)]
    return {key: float(np.mean([w for _, w in group])) for key, group in groupby(each, key=lambda pair: pair[0])}


def band(run: Path) -> dict[str, dict[str, int]]:
    """Source → number of problems whose pass rate was measured, and number that the band kept."""
    table = pq.read_table(artifact(run, STAGE) / "band.parquet", columns=["source", "kept"]).to_pylist()
    names = dict.fromkeys(row["source"] for row in table)
    return {
        name: {
            "problems": sum(row["source"] == name for row in table),
            "kept": sum(row["source"] == name and row["kept"] for row in table),
        }
        for name in names
    }


def measure(runs: list[Path], before: str, after: str) -> dict[str, Any]:
    """The claim's entry, over the runs of several seeds."""
    pairs = [(grades(run, before), grades(run, after)) for run in runs]
    per_seed = [wins(*pair) for pair in pairs]
    assert all(list(found) == list(per_seed[0]) for found in per_seed)
    gain_SP = np.array([list(found.values()) for found in per_seed]) - 0.5
    low, high = bootstrap_interval(gain_SP.mean(axis=0))
    seeds = []
    for run, pair, gain in zip(runs, pairs, gain_SP, strict=True):
        kept = [rollouts(run, stage, KEPT)["per_problem"].mean() for stage in (before, after)]
        seeds.append(
            {
                "gain": float(gain.mean()),
                "band": band(run),
                "grades": [float(np.mean([row.grade for row in found])) for found in pair],
                "puzzles": [float(value) for value in kept],
            }
        )
    return {"value": float(gain_SP.mean()), "low": low, "high": high, "n": gain_SP.shape[1], "runs": seeds,
            "unit": "win rate - 0.5"}  # fmt: skip


def main() -> None:
    print(json.dumps({"measurements": {"recipe.rl-preference": measure(finished_runs(__doc__), BEFORE, AFTER)}}))


if __name__ == "__main__":
    main()
