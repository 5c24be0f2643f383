"""Exact answers."""

import dataclasses

import pytest

from thinkling.tasks.problem import Problem
from thinkling.verify.exact import verify
from thinkling.verify.verdict import Outcome

PROBLEM = Problem("0", "sort", "sort 312", "123", "1<2<3", "exact")


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("<think>\n1<2<3\n</think>\n\n123<|im_end|>", Outcome.RIGHT),
        (" 123\n", Outcome.RIGHT),
        ("<think>\n123\n</think>\n\n132", Outcome.WRONG),
        ("<think>\n123", Outcome.WRONG),
        ("", Outcome.WRONG),
        ("1 23", Outcome.WRONG),
        ("0123", Outcome.WRONG),
    ],
)
def test_outcomes(completion: str, outcome: Outcome) -> None:
    verdict = verify(PROBLEM, completion)
    assert (verdict.outcome, verdict.tier) == (outcome, "exact")


def test_white_space_of_the_reference_is_normalised_too() -> None:
    problem = dataclasses.replace(PROBLEM, answer=" two\n words ")
    assert verify(problem, "two  words").outcome is Outcome.RIGHT
