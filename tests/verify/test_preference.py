"""Preference as a number: both orders, exchange, and the ends of the scale."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reading import Reading
from thinkling.puzzles.problemset import generate
from thinkling.verify.preference import LOWEST, Preference, grade, is_graded, win
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome

ODDS = st.floats(-1e3, 1e3)


@given(ODDS, ODDS)
def test_exchanging_answer_and_reference_negates(first: float, second: float) -> None:
    """With the places exchanged, the comparison asked first is the one that was asked second."""
    found, other = Preference(first, second), Preference(second, first)
    assert found.score == -other.score
    assert found.reward + other.reward == pytest.approx(1)
    assert 0 <= found.reward <= 1


def test_orders_are_averaged_and_a_favourite_place_cancels() -> None:
    assert Preference(1.0, -3.0).score == 2.0
    assert Preference(1.0, -3.0).consistent
    assert Preference(5.0, 5.0).score == 0.0
    assert Preference(5.0, 5.0).reward == 0.5
    assert not Preference(5.0, 4.0).consistent


@given(ODDS, ODDS)
def test_nothing_is_below_the_lowest(first: float, second: float) -> None:
    assert LOWEST.score == -math.inf
    assert LOWEST.reward == 0.0 <= Preference(first, second).reward


def test_the_rule_grades_what_is_readable_and_whole() -> None:
    (problem,) = generate({"write": {}}, "train", 1, 0)
    reply = Reading(problem.reasoning, problem.answer)
    assert is_graded(problem)
    assert grade(problem, reply, truncated=False) == 1
    assert grade(problem, reply, truncated=True) == 0
    assert grade(problem, Reading("A<", None), truncated=False) == 0
    assert verify(problem, reply).outcome is Outcome.RIGHT
    assert verify(problem, Reading.of("A")).outcome is Outcome.WRONG
    assert not is_graded(generate({"sort": {}}, "train", 1, 0)[0])


def test_ties_count_half() -> None:
    assert [win(a, b) for a, b in ((1.0, 0.5), (0.5, 0.5), (0.2, 0.5))] == [1.0, 0.5, 0.0]
