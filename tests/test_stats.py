"""Intervals against printed tables, scipy and data whose interval is known."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.stats import bootstrap_interval, student_probability, student_quantile, t_interval

# Two-sided 95% and 99% quantiles as printed in statistical tables.
TABLE = {
    (0.95, 1): 12.706,
    (0.95, 2): 4.303,
    (0.95, 3): 3.182,
    (0.95, 4): 2.776,
    (0.95, 7): 2.365,
    (0.95, 10): 2.228,
    (0.95, 30): 2.042,
    (0.99, 4): 4.604,
    (0.99, 9): 3.250,
}


@pytest.mark.parametrize(("level", "df"), TABLE)
def test_quantiles_are_those_of_the_tables(level: float, df: int) -> None:
    assert student_quantile(level, df) == pytest.approx(TABLE[level, df], abs=6e-4)


@given(st.floats(0.01, 0.999), st.integers(1, 40))
def test_quantile_undoes_probability(level: float, df: int) -> None:
    assert student_probability(student_quantile(level, df), df) == pytest.approx(level, abs=1e-12)


def test_quantiles_equal_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df in range(1, 25):
        assert student_quantile(0.95, df) == pytest.approx(float(stats.t.ppf(0.975, df)), rel=1e-9)


def test_interval_of_a_worked_example() -> None:
    # Mean 3, standard deviation sqrt(2.5), n 5: 3 ± 2.776 · 0.7071.
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.high - 3 == pytest.approx(2.7764451 * math.sqrt(2.5 / 5), rel=1e-7)
    assert 3 - interval.low == pytest.approx(interval.high - 3)
    assert interval.n == 5


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        t_interval([0.1])


@pytest.mark.parametrize(("level", "df"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_a_quantile_needs_a_level_and_freedom(level: float, df: int) -> None:
    with pytest.raises(ValueError, match="level"):
        student_quantile(level, df)


def test_interval_is_over_problems() -> None:
    """Of 2-point data the bootstrap mean is binomial: the interval is known."""
    values = np.array([0.0] * 50 + [1.0] * 50)
    low, high = bootstrap_interval(values)
    assert low == pytest.approx(0.40, abs=0.011)
    assert high == pytest.approx(0.60, abs=0.011)
    assert bootstrap_interval(values) == (low, high)
    # Eight equal samples of a problem are no more than one.
    narrow = bootstrap_interval(np.repeat(values, 8))
    assert narrow[1] - narrow[0] < 0.4 * (high - low)


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, thinkling.stats, thinkling.seeds, thinkling.labels; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
