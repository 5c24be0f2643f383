"""Brief reasoning is correct and shorter, and is drawn for the requested fraction of problems."""

from __future__ import annotations

import random
import re

import pytest

from thinkling.puzzles.brief import FAMILIES as BRIEF
from thinkling.puzzles.brief import brief, sometimes_brief
from thinkling.puzzles.families import FAMILIES

STEP = re.compile(r"[A-Z][-+*]?\d=\d+")


@pytest.mark.parametrize("name", BRIEF)
def test_every_second_step_is_left_out(name: str) -> None:
    """Results that remain are those of the full reasoning, in order, and each chain keeps its last one."""
    rng = random.Random(0)
    for _ in range(200):
        problem = FAMILIES[name].sample(rng)
        short = brief(problem)
        assert (short.id, short.question, short.answer, short.call) == (
            problem.id,
            problem.question,
            problem.answer,
            problem.call,
        )
        for full, left in zip(problem.reasoning.split(","), short.reasoning.split(","), strict=True):
            steps, kept = STEP.findall(full), STEP.findall(left)
            assert "".join(kept) == left
            assert kept == [step for i, step in enumerate(steps) if i % 2 or i == len(steps) - 1]


def test_stated_form() -> None:
    rng = random.Random(0)
    problem = FAMILIES["sum"].sample(rng, {"min_operands": 5, "max_operands": 5})
    steps = STEP.findall(problem.reasoning)
    assert brief(problem).reasoning == steps[1] + steps[3]


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(BRIEF)))
def test_other_families_are_unchanged(name: str) -> None:
    problem = FAMILIES[name].sample(random.Random(0))
    assert brief(problem) is problem


def test_fraction() -> None:
    rng = random.Random(0)
    problems = [FAMILIES["mod"].sample(rng, {"min_operands": 4}) for _ in range(1000)]
    shown = [sometimes_brief(problem, 7, 0.3).reasoning != problem.reasoning for problem in problems]
    assert 0.25 < sum(shown) / len(shown) < 0.35
    assert shown == [sometimes_brief(problem, 7, 0.3).reasoning != problem.reasoning for problem in problems]
    assert not any(sometimes_brief(problem, 7, 0.0) is not problem for problem in problems)
