"""How much better or worse than an earlier evaluation, where problems are right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thinkling.generate.rollouts import Rollout, read_rollouts
from thinkling.stats import bootstrap_interval


@dataclass(frozen=True)
class Difference:
    """Accuracy minus that of the baseline on the same problem, mean over `n` problems with a bootstrap interval: how
    hard a problem is for both cancels out."""

    mean: float
    low: float
    high: float
    n: int


def difference(mine: Sequence[Rollout], baseline: Path) -> Difference:
    """`baseline`: the folder of its rollouts. k may differ. ValueError where it has other problems."""
    here = _accuracies(mine)
    there = _accuracies([r for file in sorted(baseline.glob("*.parquet")) for r in read_rollouts(file)])
    if here.keys() != there.keys():
        raise ValueError("answers to other problems cannot be compared")
    values = np.array([accuracy - there[problem] for problem, accuracy in here.items()])
    low, high = bootstrap_interval(values)
    return Difference(float(values.mean()), low, high, len(values))


def _accuracies(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Problem → share of its samples that are right."""
    right: dict[str, list[bool]] = {}
    for rollout in rollouts:
        right.setdefault(rollout.problem_id, []).append(rollout.right)
    return {problem: float(np.mean(found)) for problem, found in right.items()}
