"""Splits a gain by its causes: more thinking, better thinking, better direct answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Thinking:
    """Counts of one model's samples on one family: all, thinking, and right with and without thinking."""

    samples: int
    thinking: int
    right_thinking: int
    right_direct: int

    @property
    def fraction(self) -> float:
        return self.thinking / self.samples

    @property
    def right(self) -> float:
        return (self.right_thinking + self.right_direct) / self.samples

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the samples that think; None if none does."""
        return self.right_thinking / self.thinking if self.thinking else None

    @property
    def direct_accuracy(self) -> float | None:
        """Accuracy of the samples that answer directly; None if all think."""
        direct = self.samples - self.thinking
        return self.right_direct / direct if direct else None


@dataclass(frozen=True)
class Split:
    """A gain in the fraction of right samples, as three parts that sum to it."""

    more_often: float
    """Thinks more often, at the accuracies averaged over before and after."""
    better: float
    """Thinks better, at the average fraction of thinking."""
    direct: float
    """Better direct answers, at the average fraction of them."""

    @property
    def total(self) -> float:
        return self.more_often + self.better + self.direct


def split_gain(before: Thinking, after: Thinking) -> Split:
    """right = s·t + (1 − s)·d with fraction s and accuracies t and d. Changes of products are split at midpoints, so
    the parts sum exactly and swapping before and after flips their signs. An accuracy without samples counts as
    unchanged."""
    t0, t1 = _both(before.accuracy, after.accuracy)
    d0, d1 = _both(before.direct_accuracy, after.direct_accuracy)
    s0, s1 = before.fraction, after.fraction
    return Split(
        more_often=(s1 - s0) * ((t0 + t1) - (d0 + d1)) / 2,
        better=(s0 + s1) / 2 * (t1 - t0),
        direct=(1 - (s0 + s1) / 2) * (d1 - d0),
    )


def _both(before: float | None, after: float | None) -> tuple[float, float]:
    known = before if before is not None else after if after is not None else 0.0
    return (before if before is not None else known), (after if after is not None else known)


def mean_split(splits: Sequence[Split]) -> Split:
    """The mean of each part, for example over families of equal size."""
    n = len(splits)
    return Split(
        math.fsum(s.more_often for s in splits) / n,
        math.fsum(s.better for s in splits) / n,
        math.fsum(s.direct for s in splits) / n,
    )
