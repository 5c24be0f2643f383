"""Numbers against the value of the problem's expression, and graded lines."""

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reading import Reading
from thinkling.generate.calculator import write_number
from thinkling.puzzles.verifiers import calculator, writing
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import needs_sandbox, resolve
from thinkling.verify.verdict import Outcome

PROBLEM = Problem(
    "1", "calc", "calc 47*83", "3901", "47*83", "calculator", ("calculator",), False, {"expression": "47*83"}
)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("3901", Outcome.RIGHT),
        ("3901.0", Outcome.RIGHT),
        ("+03901", Outcome.RIGHT),
        ("7802/2", Outcome.RIGHT),
        ("3902", Outcome.WRONG),
        ("-3901", Outcome.WRONG),
        ("47*83", Outcome.WRONG),
        ("3901 or 3902", Outcome.WRONG),
        ("3901/0", Outcome.WRONG),
        ("٣٩٠١", Outcome.WRONG),
        ("9" * 5_000, Outcome.WRONG),
        ("", Outcome.WRONG),
    ],
)
def test_outcomes(answer: str, outcome: Outcome) -> None:
    verdict = calculator(PROBLEM, Reading.of(answer))
    assert (verdict.outcome, verdict.tier) == (outcome, "calculator")


@pytest.mark.parametrize("reference", [None, "", "47*", "1/0", "9" * 300])
def test_unreadable_reference(reference: str | None) -> None:
    problem = dataclasses.replace(PROBLEM, call=None if reference is None else {"expression": reference})
    assert calculator(problem, Reading.of("3901")).outcome is Outcome.UNVERIFIABLE


@given(st.integers(0, 9_999), st.integers(1, 9_999))
def test_any_spelling_of_the_value_is_right(a: int, b: int) -> None:
    problem = dataclasses.replace(PROBLEM, call={"expression": f"{a}/{b}"})
    assert calculator(problem, Reading.of(write_number(Fraction(a, b)))).outcome is Outcome.RIGHT
    assert calculator(problem, Reading.of(f"{a}/{b}")).outcome is Outcome.RIGHT
    assert calculator(problem, Reading.of(f"{a + 1}/{b}")).outcome is Outcome.WRONG


def test_nothing_readable_is_wrong() -> None:
    assert calculator(PROBLEM, Reading("3901", None)).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("line", "outcome", "score"),
    [
        ("ADK!", Outcome.RIGHT, 1),
        ("KDA", Outcome.RIGHT, 2 / 3),
        ("KD!", Outcome.WRONG, (2 / 3 + 2) / 3),
        ("KDAX!", Outcome.WRONG, (3 / 4 + 2) / 3),
    ],
)
def test_lines_are_right_by_their_letters_and_graded_by_taste_too(line: str, outcome: Outcome, score: float) -> None:
    problem = Problem("2", "write", "write KDA", "KDA!", "KDA", "writing")
    assert writing(problem, Reading.of(line)).outcome is outcome
    assert writing.grade(problem, Reading.of(line)) == pytest.approx(score)


def test_the_puzzles_verifiers_are_entry_points() -> None:
    assert resolve("calculator") is calculator
    assert callable(getattr(resolve("writing"), "grade", None))
    assert [needs_sandbox(name) for name in ("program", "calculator", "writing", "exact")] == [
        True,
        False,
        False,
        False,
    ]
