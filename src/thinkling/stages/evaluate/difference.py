"""How much better or worse than an earlier evaluation, where problems are right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thinkling.generate.rollouts import Rollout, read_rollouts
from thinkling.stats import Difference, difference


def against(baseline: Path, mine: Sequence[Rollout]) -> Difference:
    """Accuracy minus that of the baseline on the same problems; k may differ.

    `baseline`: folder of its rollouts. Raises ValueError if it has other problems.
    """
    here = _accuracies(mine)
    there = _accuracies([r for file in sorted(baseline.glob("*.parquet")) for r in read_rollouts(file)])
    if here.keys() != there.keys():
        raise ValueError("answers to other problems cannot be compared")
    return difference([accuracy - there[problem] for problem, accuracy in here.items()])


def _accuracies(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Problem → share of its samples that are right."""
    right: dict[str, list[bool]] = {}
    for rollout in rollouts:
        right.setdefault(rollout.problem_id, []).append(rollout.right)
    return {problem: sum(found) / len(found) for problem, found in right.items()}
