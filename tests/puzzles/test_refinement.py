"""Roles in symbols: what is written for training is read back, and nothing else is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.puzzles import refinement as roles
from thinkling.puzzles.problemset import generate

PROBLEMS = generate({family: {} for family in roles.FAMILIES}, "train", 30, seed=5)
TEXT = st.text(alphabet="AB123+-*=<.;:!?\n ", max_size=30)
problems = st.sampled_from(PROBLEMS)
seeds = st.integers(0, 10**6)


@given(problems)
def test_checklist_is_read_back_and_needs_no_answer(problem) -> None:
    items = roles.items_of(problem)
    assert roles.read_checklist("".join(items)) == items
    assert len(items) == len(roles.steps_of(problem.family, problem.reasoning)) + 1


@given(problems, seeds)
def test_critique_finds_each_flaw(problem, seed: int) -> None:
    items = roles.items_of(problem)
    reasoning, answer = roles.flawed(problem, random.Random(seed))
    steps = roles.steps_of(problem.family, problem.reasoning)
    flawless = answer == problem.answer and set(steps) <= set(roles.steps_of(problem.family, reasoning))
    verdict = roles.read_critique(roles.critique_of(problem, reasoning, answer), items)
    assert verdict is not None
    assert all(verdict) == flawless
    assert all(roles.read_critique(roles.critique_of(problem, problem.reasoning, problem.answer), items) or [False])


@given(problems, seeds)
def test_flaws_can_be_shown_to_an_evaluator(problem, seed: int) -> None:
    reasoning, answer = roles.flawed(problem, random.Random(seed))
    assert roles.read_line(f"{reasoning}.{answer}") == (reasoning, answer)


@given(problems, seeds, st.sampled_from(roles.ROLES))
def test_training_replies_are_in_form(problem, seed: int, role: roles.Role) -> None:
    asked, reply = (m["content"] for m in roles.conversation(problem, {role: 1.0}, random.Random(seed)))
    assert problem.question in asked
    if role == "checklist":
        assert roles.read_checklist(reply)
    elif role == "evaluate":
        assert roles.read_critique(reply, roles.items_of(problem)) is not None
    elif role == "revise":
        assert roles.read_line(reply) == (problem.reasoning, problem.answer)
    else:
        found = roles.read_chain(reply)
        assert found is not None
        assert found[1:] == (problem.reasoning, problem.answer)


@given(TEXT)
def test_readers_take_anything_and_guess_nothing(text: str) -> None:
    items = ["B+1", "C-2", "."]
    line, chain, checklist = roles.read_line(text), roles.read_chain(text), roles.read_checklist(text)
    assert line is None or ".".join(line) == text
    assert chain is None or f"{chain[0]}:{chain[1]}.{chain[2]}" == text
    assert checklist is None or "".join(checklist) == text
    verdict = roles.read_critique(text, items)
    assert verdict is None or (len(verdict) == 3 and "B+1" in text and "C-2" in text and text[-1] in "!?")


@pytest.mark.parametrize(
    "text",
    [
        "B+1=2!C-2=0!",
        "B+1=2!C-2=0!.0",
        "B+1=2!B+1=2!.0!",
        "C-2=0!.0!B+1=2!",
        "B+1=2!C-2=0!.0! ",
        "B+1=2!C-2=0!.0!.0!",
        "D+1=2!C-2=0!.0!",
        "",
    ],
)
def test_critiques_out_of_form(text: str) -> None:
    assert roles.read_critique(text, ["B+1", "C-2", "."]) is None


def test_verdicts_stand_in_the_order_of_the_checklist() -> None:
    assert roles.read_critique("1C!2B?.CB!", ["B", "C", "."]) == [False, True, True]


@pytest.mark.parametrize("text", ["B+1", ".", "B+1B+1.", "B+1;C-2.", "B+1C -2.", "B+1C-2", "B?.", "B+1.."])
def test_checklists_out_of_form(text: str) -> None:
    assert roles.read_checklist(text) is None


def test_family_with_a_tool_has_no_roles() -> None:
    problem = generate({"calc": {}}, "train", 1, 0)[0]
    with pytest.raises(UserError, match="calc"):
        roles.critique_of(problem, "", "1")
