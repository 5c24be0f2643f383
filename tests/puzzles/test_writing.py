"""The rule that grades lines, its items by hand, and lines that nothing can be said against."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.puzzles.problemset import generate
from thinkling.puzzles.writing import NOTHING, WRITE, Grade, add_noise, grade
from thinkling.tasks.problem import split


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("KDA!", Grade(1, 1, 1)),
        ("ADK!", Grade(1, 1, 1)),
        ("KDA", Grade(1, 1, 0)),
        ("KDA!!", Grade(1, 3 / 4, 0)),
        ("K!DA", Grade(1, 3 / 4, 0)),
        ("K1D23A!", Grade(1, 3 / 6, 1)),
        ("KD!", Grade(2 / 3, 1, 1)),
        ("KDAXY!", Grade(1, 3 / 5, 1)),
        ("KKDA!", Grade(1, 3 / 4, 1)),
        ("XYZ!", NOTHING),
        ("a line!", NOTHING),
        ("", NOTHING),
    ],
)
def test_items_of_a_grade(line: str, expected: Grade) -> None:
    found = grade("write KDA", line)
    assert vars(found) == pytest.approx(vars(expected))
    assert found.mean == pytest.approx(sum(vars(expected).values()) / 3)


@given(st.integers(0, 2**63 - 1))
def test_the_answer_has_full_marks_in_any_order_of_letters(seed: int) -> None:
    rng = random.Random(seed)
    problem = WRITE.sample(rng)
    assert grade(problem.question, problem.answer).mean == 1
    letters = list(problem.answer[:-1])
    rng.shuffle(letters)
    assert grade(problem.question, "".join(letters) + "!").mean == 1


def test_lines_without_the_mark_are_correct_but_do_not_have_full_marks() -> None:
    problems = generate({"write": {"unmarked": 70}}, "train", 300, 0)
    unmarked = [problem for problem in problems if not problem.answer.endswith("!")]
    assert 180 < len(unmarked) < 240
    assert all(grade(problem.question, problem.answer).correct for problem in problems)
    assert all(grade(problem.question, problem.answer) == Grade(1, 1, 0) for problem in unmarked)


@given(st.integers(0, 2**63 - 1), st.text(max_size=12))
def test_any_text_has_a_grade(seed: int, line: str) -> None:
    problem = WRITE.sample(random.Random(seed))
    found = grade(problem.question, line)
    assert all(0 <= value <= 1 for value in vars(found).values())
    assert (found.mean == 1) == (sorted(line) == sorted(problem.answer) and line.endswith("!"))


@given(st.integers(0, 2**63 - 1), st.floats(0, 1))
def test_noise_never_betters(seed: int, rate: float) -> None:
    rng = random.Random(seed)
    problem = WRITE.sample(rng)
    assert grade(problem.question, add_noise(problem, rng, rate)[1]).mean <= 1
    assert add_noise(problem, rng, 0.0) == (problem.reasoning, problem.answer)
    worst = add_noise(problem, rng, 1.0)[1]
    assert not worst.endswith("!")
    assert len(worst) >= len(problem.answer)


def test_quality_varies_with_the_rate() -> None:
    rng = random.Random(0)
    problems = generate({"write": {}}, "train", 300, 0)
    means = [
        sum(grade(p.question, add_noise(p, rng, rate)[1]).mean for p in problems) / len(problems)
        for rate in (0.0, 0.2, 0.5, 1.0)
    ]
    assert means[0] == 1
    assert sorted(means, reverse=True) == means
    assert means[-1] < 0.7


def test_sides_hold_enough() -> None:
    assert len({p.id for p in generate({"write": {}}, "heldout", 400, 0)}) == 400
    assert all(split(p) == "train" for p in generate({"write": {}}, "train", 400, 0))
