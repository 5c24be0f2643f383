"""Intervals over paired seeds, and a gain split into what it came from. Plain floats: loads neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values with the ends of its two-sided interval."""

    mean: float
    low: float
    high: float
    n: int


def student_probability(t: float, df: int) -> float:
    """P(|T| ≤ t) of Student's distribution with `df` degrees of freedom, t ≥ 0: the finite series of Abramowitz and
    Stegun 26.7.3 (odd) and 26.7.4 (even)."""
    theta = math.atan(t / math.sqrt(df))
    cos2 = math.cos(theta) ** 2
    term = total = math.cos(theta) if df % 2 else 1.0
    for i in range(3 if df % 2 else 2, df - 1, 2):
        term *= (i - 1) / i * cos2
        total += term
    if df % 2 == 0:
        return math.sin(theta) * total
    return 2 / math.pi * (theta + (math.sin(theta) * total if df > 1 else 0.0))


def student_quantile(level: float, df: int) -> float:
    """The t with P(|T| ≤ t) = `level` (0.95 and 7 degrees: 2.3646), by bisection to the last bit of a float.

    Raises ValueError unless 0 < level < 1 and df ≥ 1.
    """
    if not 0 < level < 1 or df < 1:
        raise ValueError(f"level {level} lies outside 0–1, or df {df} is below 1")
    low, high = 0.0, 1.0
    while student_probability(high, df) < level:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if student_probability(middle, df) < level else (low, middle)
    return high


def t_interval(differences: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of paired differences, one a seed, with its t-interval.

    Raises ValueError for fewer than two values: one has no spread.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"a t-interval needs two seeds or more, not {n}")
    mean = math.fsum(differences) / n
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    half = student_quantile(level, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Thinking:
    """Samples of one model on one family: how many there are, how many think, and the right ones of both kinds."""

    samples: int
    thinking: int
    right_thinking: int
    right_direct: int

    @property
    def share(self) -> float:
        return self.thinking / self.samples

    @property
    def right(self) -> float:
        return (self.right_thinking + self.right_direct) / self.samples

    @property
    def accuracy(self) -> float | None:
        """Right among the samples that think; None where none does."""
        return self.right_thinking / self.thinking if self.thinking else None

    @property
    def direct_accuracy(self) -> float | None:
        """Right among those that answer at once; None where all think."""
        direct = self.samples - self.thinking
        return self.right_direct / direct if direct else None


@dataclass(frozen=True)
class Split:
    """A gain in shares of right samples; the three parts sum to it."""

    more_often: float
    """Thinks more often, at the accuracies' averages of before and after."""
    better: float
    """Thinks better, at the average share of thinking."""
    direct: float
    """Answers at once better, at the average share of that."""

    @property
    def total(self) -> float:
        return self.more_often + self.better + self.direct


def split_gain(before: Thinking, after: Thinking) -> Split:
    """right = s·t + (1 − s)·d with share s, accuracies t and d; every product's change is split at midpoints, so the
    parts sum exactly and swapping before and after flips their signs. An accuracy that nothing was seen of is taken
    as unchanged."""
    t0, t1 = _both(before.accuracy, after.accuracy)
    d0, d1 = _both(before.direct_accuracy, after.direct_accuracy)
    s0, s1 = before.share, after.share
    return Split(
        more_often=(s1 - s0) * ((t0 + t1) - (d0 + d1)) / 2,
        better=(s0 + s1) / 2 * (t1 - t0),
        direct=(1 - (s0 + s1) / 2) * (d1 - d0),
    )


def _both(before: float | None, after: float | None) -> tuple[float, float]:
    known = before if before is not None else after if after is not None else 0.0
    return (before if before is not None else known), (after if after is not None else known)


def mean_split(splits: Sequence[Split]) -> Split:
    """The parts' means, as over families of equal size."""
    n = len(splits)
    return Split(
        math.fsum(s.more_often for s in splits) / n,
        math.fsum(s.better for s in splits) / n,
        math.fsum(s.direct for s in splits) / n,
    )
