"""The family `program`, against a second reading of its questions. Nothing here runs Python source: the sandbox's
verdict on these programs is in tests/verify/test_program.py."""

import ast
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.noise import add_noise
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.programs import (
    HIDDEN_TESTS,
    OPERATIONS,
    PUBLIC_TESTS,
    TYPES,
    evaluate,
    read_steps,
    spell,
    write_code,
    write_types,
)
from thinkling.tasks.problem import Problem

FAMILY = FAMILIES["program"]


def cases(problem: Problem) -> list[tuple[object, object]]:
    """Argument and value of each test, read by ast."""
    found = []
    for test in (*problem.tests, *problem.hidden_tests):
        argument, value = re.fullmatch(r"assert f\((.+)\) == (.+)", test).groups()
        found.append((ast.literal_eval(argument), ast.literal_eval(value)))
    return found


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=150, deadline=None)
def test_question_working_code_and_tests_belong_together(seed: int) -> None:
    problem = FAMILY.sample(random.Random(seed))
    takes, steps = read_steps(problem.question)
    assert problem.question == f"program {spell(takes, steps)}"
    assert problem.difficulty == {"steps": len(steps), "takes": takes}
    assert (len(problem.tests), len(problem.hidden_tests)) == (PUBLIC_TESTS, HIDDEN_TESTS)
    assert len(set(problem.tests + problem.hidden_tests)) == PUBLIC_TESTS + HIDDEN_TESTS
    assert all(evaluate(steps, argument) == value for argument, value in cases(problem))
    types = [takes, *(step.operation.gives for step in steps)]
    assert all(step.operation.takes == kind for step, kind in zip(steps, types, strict=False))
    assert (problem.reasoning, problem.answer) == (write_types(types[1:]), write_code(steps, types))
    assert len(ast.parse(problem.answer).body) == 1
    assert not set(problem.answer) & set(".\n")  # a page ends at the newline, and its answer follows the last full stop


def test_stated_form() -> None:
    _, steps = read_steps("program list:Bkeep>4C+2Dmax")
    types = ["list", "list", "list", "number"]
    assert write_types(types[1:]) == "BlistClistDnumber"
    assert write_code(steps, types) == "def f(A):B=[i for i in A if i>4];C=[i+2 for i in B];return max(C)"
    assert evaluate(steps, [5, 9, 1]) == 11
    assert write_code(*[read_steps("program number:B-2if>5")[1], ["number"]]) == "def f(A):return A-2 if A>5 else A"
    assert evaluate(read_steps("program number:B-2if>5")[1], 6) == 4


def test_no_step_can_be_left_out() -> None:
    """Of the same type before and after; the argument itself is not the answer either, nor is one value enough."""
    for problem in generate({"program": {}}, "train", 100, seed=3):
        _, steps = read_steps(problem.question)
        hidden = cases(problem)[PUBLIC_TESTS:]
        assert len({repr(value) for _, value in hidden}) >= 3
        assert any(argument != value for argument, value in hidden)
        for i, step in enumerate(steps):
            if step.operation.takes == step.operation.gives:
                shorter = steps[:i] + steps[i + 1 :]
                assert not all(agrees(shorter, argument, value) for argument, value in hidden)


def agrees(steps: list, argument: object, value: object) -> bool:
    try:
        return evaluate(steps, argument) == value
    except (ValueError, IndexError):
        return False


def test_tests_follow_from_the_question() -> None:
    first = {p.question: p for p in generate({"program": {"max_steps": 2, "kinds": 1}}, "train", 150, seed=1)}
    second = {p.question: p for p in generate({"program": {"max_steps": 2, "kinds": 1}}, "train", 150, seed=2)}
    shared = set(first) & set(second)
    assert shared
    assert all(first[q].hidden_tests == second[q].hidden_tests for q in shared)


def test_knobs() -> None:
    rng = random.Random(1)
    one = [FAMILY.sample(rng, {"min_steps": 3, "max_steps": 4, "kinds": 1}).difficulty for _ in range(60)]
    assert {d["steps"] for d in one} == {3, 4}
    assert {d["takes"] for d in one} == {"number"}
    assert {FAMILY.sample(rng, {"kinds": 2}).difficulty["takes"] for _ in range(60)} == {"number", "list"}
    with pytest.raises(UserError, match="family program: knob kinds is 4, but must be a whole number from 1 to 3"):
        FAMILY.sample(rng, {"kinds": 4})


def test_every_operation_is_asked_for() -> None:
    asked = {
        step.operation for p in generate({"program": {}}, "train", 400, seed=0) for step in read_steps(p.question)[1]
    }
    assert asked == set(OPERATIONS)


def test_noisy_code_follows_from_the_noisy_working() -> None:
    rng = random.Random(2)
    changed = 0
    for problem in generate({"program": {}}, "train", 200, seed=0):
        noisy = add_noise(problem, rng, 0.5)
        types = re.findall("|".join(TYPES), noisy.reasoning)
        takes, steps = read_steps(problem.question)
        # What the code says of each step, constants as they stand there, is what the noisy types make of it.
        digits = "".join(re.findall(r"\d", re.sub(r"\[::-1\]|\[1:\]", "", noisy.answer)))
        spelled = re.sub(r"\d", "{}", spell(takes, steps)).format(*digits)
        assert noisy.answer == write_code(read_steps(spelled)[1], [takes, *types])
        assert (noisy.id, noisy.question) == (problem.id, problem.question)
        changed += noisy.answer != problem.answer
    assert changed > 100
    assert add_noise(problem, rng, 0.0) == problem
