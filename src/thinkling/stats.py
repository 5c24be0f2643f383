"""Confidence intervals: bootstrap over problems, and Student's t over seeds. scipy is optional and not used here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_RESAMPLES_AT_ONCE = 500


def bootstrap_interval(values_P: np.ndarray, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean, resampling problems with replacement (Efron and
    Tibshirani 1993, §13.3).

    `values_P`: fp64, one mean per problem. The same values and seed always result in the same interval.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, resamples - start)
        means.append(values_P[rng.integers(0, len(values_P), (count, len(values_P)))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """Mean of `n` paired differences, and the mean's 95% bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def direction(self) -> str:
        """`up` or `down` if the interval excludes 0, else an empty string."""
        return "up" if self.low > 0 else "down" if self.high < 0 else ""


def difference(values: Sequence[float]) -> Difference:
    """Return the mean difference between two models on the same problems, with its interval.

    `values`: one difference per problem. The difficulty of a problem affects both models and cancels out of the
    difference, so the interval is narrower than the intervals of the two scores suggest.
    """
    import numpy as np

    low, high = bootstrap_interval(np.array(values))
    return Difference(float(np.mean(values)), low, high, len(values))


def student_probability(t: float, df: int) -> float:
    """Return P(|T| ≤ t) for Student's distribution with `df` degrees of freedom and t ≥ 0, computed by the finite
    series of Abramowitz and Stegun 26.7.3 (odd `df`) and 26.7.4 (even `df`)."""
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
    """Return the value t for which P(|T| ≤ t) = `level`, by bisection to the last bit of a float. For `level` 0.95 and
    `df` 7, t is 2.3646.

    Raises ValueError unless 0 < level < 1 and df ≥ 1.
    """
    if not 0 < level < 1 or df < 1:
        raise ValueError(f"level {level} is outside 0–1, or df {df} is below 1")
    low, high = 0.0, 1.0
    while student_probability(high, df) < level:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if student_probability(middle, df) < level else (low, middle)
    return high


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of independent values (paired differences, one per seed) and the two ends of its 95% t-interval.

    Raises ValueError for fewer than two values, because the variance of a single value is undefined.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"a t-interval needs at least two seeds, not {n}")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = student_quantile(0.95, n - 1) * math.sqrt(variance / n)
    return mean, mean - half, mean + half
