"""Exact answers."""

import dataclasses

import pytest

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.exact import verify
from thinkling.verify.verdict import Outcome

PROBLEM = Problem("0", "sort", "sort 312", "123", "1<2<3", "exact")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("123", Outcome.RIGHT),
        (" 123\n", Outcome.RIGHT),
        ("132", Outcome.WRONG),
        ("", Outcome.WRONG),
        ("1 23", Outcome.WRONG),
        ("0123", Outcome.WRONG),
    ],
)
def test_outcomes(answer: str, outcome: Outcome) -> None:
    verdict = verify(PROBLEM, Reading.of(answer))
    assert (verdict.outcome, verdict.tier) == (outcome, "exact")


def test_white_space_of_the_reference_is_normalised_too() -> None:
    problem = dataclasses.replace(PROBLEM, answer=" two\n words ")
    assert verify(problem, Reading.of("two  words")).outcome is Outcome.RIGHT


def test_reasoning_is_no_answer() -> None:
    assert verify(PROBLEM, Reading("123", None)).outcome is Outcome.WRONG
    assert verify(PROBLEM, Reading("123", "132")).outcome is Outcome.WRONG
    assert verify(PROBLEM, Reading("132", "123")).outcome is Outcome.RIGHT
