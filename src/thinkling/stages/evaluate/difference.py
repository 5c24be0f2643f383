"""Difference in accuracy from an earlier evaluation, for task sets whose answers are judged by verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thinkling.generate.rollouts import Rollout, read_rollouts
from thinkling.stats import Difference, difference


def against(baseline: Path, mine: Sequence[Rollout]) -> Difference:
    """Returns the accuracy of the rollouts `mine` minus the baseline's accuracy on the same problems. The two
    evaluations may use different k.

    `baseline`: directory of the baseline's rollouts. Raises ValueError if the baseline has different problems.
    """
    here = _accuracies(mine)
    there = _accuracies([r for file in sorted(baseline.glob("*.parquet")) for r in read_rollouts(file)])
    if here.keys() != there.keys():
        raise ValueError("answers to different problems cannot be compared")
    return difference([accuracy - there[problem] for problem, accuracy in here.items()])


def _accuracies(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Returns a mapping from problem to the fraction of its samples that are correct."""
    right: dict[str, list[bool]] = {}
    for rollout in rollouts:
        right.setdefault(rollout.problem_id, []).append(rollout.right)
    return {problem: sum(found) / len(found) for problem, found in right.items()}
