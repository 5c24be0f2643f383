"""Order of prompts: pure functions of the step, an epoch shows each problem once, refills repeat none of the step."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from thinkling.puzzles.problemset import generate
from thinkling.stages.rl.prompts import PromptPool, Prompts
from thinkling.stages.rl.rewards import by_sample, verdict

PROBLEMS = generate({"sort": {}}, "train", 30, 0)


def pool(name: str, n: int, weight: float = 1.0) -> PromptPool:
    return PromptPool(name, PROBLEMS[:n], weight, by_sample(verdict))


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 5))
def test_each_problem_once_an_epoch_and_once_a_step(n: int, groups: int, seed: int) -> None:
    prompts = Prompts([pool("a", n)], groups, 12, seed)
    asked = []
    for step in range(12):
        everything = [p.id for p in prompts.candidates(step, 0)]
        assert sorted(everything) == sorted(p.id for p in PROBLEMS[:n])
        asked += everything[:groups]
    if n % groups == 0:
        for start in range(0, 12 * groups - n + 1, n):
            assert len(set(asked[start : start + n])) == n


@given(st.integers(1, 6), st.floats(0.1, 5), st.integers(0, 3))
def test_groups_are_dealt_by_weight(groups: int, weight: float, seed: int) -> None:
    prompts = Prompts([pool("a", 9), pool("b", 9, weight)], groups, 40, seed)
    total = 0
    for step in range(40):
        wanted = prompts.wanted(step)
        assert sum(wanted) == groups
        total += wanted[1]
        assert abs(total - (step + 1) * groups * weight / (1 + weight)) < 1


def test_a_step_does_not_depend_on_those_before() -> None:
    first, second = (Prompts([pool("a", 20), pool("b", 7, 0.5)], 5, 10, 1) for _ in range(2))
    for step in range(9):
        list(first.candidates(step, 0))
    assert [p.id for p in first.candidates(9, 1)] == [p.id for p in second.candidates(9, 1)]
    other = Prompts([pool("a", 20), pool("b", 7, 0.5)], 5, 10, 2)
    assert [p.id for p in islice(other.candidates(9, 0), 9)] != [p.id for p in islice(first.candidates(9, 0), 9)]
