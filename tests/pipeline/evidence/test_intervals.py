"""Intervals and the split of a gain, against tables and against their definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.pipeline.evidence.intervals import (
    Thinking,
    mean_split,
    split_gain,
    student_probability,
    student_quantile,
    t_interval,
)

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


@st.composite
def _thinking(draw: st.DrawFn) -> Thinking:
    samples = draw(st.integers(1, 50))
    thinking = draw(st.integers(0, samples))
    return Thinking(samples, thinking, draw(st.integers(0, thinking)), draw(st.integers(0, samples - thinking)))


@given(_thinking(), _thinking())
def test_parts_sum_to_the_gain_and_change_sign_with_direction(before: Thinking, after: Thinking) -> None:
    there, back = split_gain(before, after), split_gain(after, before)
    assert there.total == pytest.approx(after.right - before.right, abs=1e-12)
    for part in ("more_often", "better", "direct"):
        assert getattr(there, part) == pytest.approx(-getattr(back, part), abs=1e-12)


def test_each_part_moves_alone() -> None:
    half = Thinking(100, 50, 40, 10)
    oftener = Thinking(100, 100, 80, 0)
    better = Thinking(100, 50, 50, 10)
    direct = Thinking(100, 50, 40, 30)
    assert (split_gain(half, oftener).more_often, split_gain(half, oftener).better) == (pytest.approx(0.3), 0)
    assert (split_gain(half, better).better, split_gain(half, better).more_often) == (pytest.approx(0.1), 0)
    assert (split_gain(half, direct).direct, split_gain(half, direct).better) == (pytest.approx(0.2), 0)


@given(st.lists(st.tuples(_thinking(), _thinking()), min_size=1, max_size=6))
def test_means_over_families_still_sum(pairs: list[tuple[Thinking, Thinking]]) -> None:
    mean = mean_split([split_gain(a, b) for a, b in pairs])
    assert mean.total == pytest.approx(math.fsum(b.right - a.right for a, b in pairs) / len(pairs), abs=1e-12)
