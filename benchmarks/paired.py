"""Alternating measurements (A B A B): geometric mean of the paired ratios, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from thinkling.stats import t_interval


def geometric_mean(ratios: Sequence[float]) -> dict[str, float]:
    """`value`, `low` and `high`: the geometric mean and the ends of its 95% t-interval (of the logarithms)."""
    middle, low, high = t_interval([math.log(ratio) for ratio in ratios])
    return {"value": math.exp(middle), "low": math.exp(low), "high": math.exp(high)}
