"""The split of a gain, against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.pipeline.evidence.intervals import (
    Thinking,
    mean_split,
    split_gain,
)


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
