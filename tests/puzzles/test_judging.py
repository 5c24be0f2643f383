"""Pairs for a pairwise model: the form, the verdict by the rule, and noise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.puzzles.examples import example
from thinkling.puzzles.judging import JUDGE, VERDICTS, question
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.writing import grade
from thinkling.tasks.problem import problem_id, split


def test_form() -> None:
    assert question("write KDA", "DKA!", "KDD") == "judge write KDA\nDKA!\nKDD"
    with pytest.raises(ValueError, match="a single line"):
        question("write KDA", "A!\nB!", "KDA")


@given(st.integers(0, 2**63 - 1))
def test_the_verdict_is_the_rules_and_the_inner_question_a_training_one(seed: int) -> None:
    problem = JUDGE.sample(random.Random(seed))
    asked, first, second = problem.question.removeprefix("judge ").split("\n")
    better = grade(asked, first).mean > grade(asked, second).mean
    assert grade(asked, first).mean != grade(asked, second).mean
    assert problem.answer == VERDICTS[0 if better else 1]
    assert int(problem_id("write", asked), 16) >= 0.1 * 16**16


def test_noise_is_the_other_verdict_and_no_verdict_has_reasoning() -> None:
    problems = generate({"judge": {}}, "train", 1_000, 0)
    turns = [example(p, 0, 0.0, 0.2)[1] for p in problems]
    flipped = [t["content"] != p.answer for t, p in zip(turns, problems, strict=True)]
    assert sum(flipped) / 1_000 == pytest.approx(0.2, abs=0.04)
    assert all(t["content"] in VERDICTS and not t["reasoning_content"] for t in turns)
    assert all(split(p) == "train" for p in problems)
    assert sum(p.answer == "1" for p in problems) / 1_000 == pytest.approx(0.5, abs=0.05)
