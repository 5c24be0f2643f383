"""Symbolic versions of the refinement roles for puzzle families: prompts, reply parsers and training conversations.

A model of 0.3M parameters plays the roles that a large model plays in words (stages/refine/words.py). Every reply is
local: a copy from the prompt plus one operation per step. For `sum A1B+5C+9` and the draft `B+5=6C+9=14.14`:

    checklist   list sum A1B+5C+9                                → B+5C+9.
    evaluate    check sum A1B+5C+9 / B+5=6C+9=14.14 / B+5C+9.    → B+5=6!C+9=15?.15?
    revise      mend sum A1B+5C+9 / B+5=6C+9=14.14 / (critique)  → B+5=6C+9=15.15
    chain       chain sum A1B+5C+9 / 15                          → B+5C+9:B+5=6C+9=15.15

The items of a checklist are concatenated. Each names what one step handles: an operand of a chain, a letter to reverse,
a digit to sort; the last one, `.`, is the answer. The evaluator writes its own version of each step, in the order of
the reasoning, and marks it with `!` if the solution contains it, otherwise with `?`. The chain's summary is its plan.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from thinkling.errors import UserError
from thinkling.puzzles.families import CHAIN_STEP
from thinkling.puzzles.noise import noisy_text
from thinkling.tasks.problem import Problem

Role = Literal["checklist", "evaluate", "revise", "chain"]
ROLES: tuple[Role, ...] = ("checklist", "evaluate", "revise", "chain")

GOOD, BAD, ANSWER, PLAN = "!", "?", ".", ":"
_OPERAND = re.compile(r"(?<!^)[A-Z][-+*]?\d")
_STEPS = {
    "sum": CHAIN_STEP,
    "mod": CHAIN_STEP,
    "maximum": CHAIN_STEP,
    "reverse": re.compile(r"\d[A-Z]"),
    "sort": re.compile(r"<?\d"),
}
FAMILIES = tuple(_STEPS)
"""Families that these roles support: those whose reasoning is a sequence of steps, without a tool."""
_ITEM = re.compile(r"[A-Z][-+*]?\d|[A-Z]|\d|\.")
_SEGMENT = re.compile(r"([^!?\n]+)([!?])")
_LINE = re.compile(r"[^\s!?:;]*\.[^\s.!?:;]+")
_FLAWS = {"symbols": 5, "turn": 5, "bare": 2, "bare_wrong": 2, "answer": 1, "cut": 1}
"""Flaw → weight among flawed training drafts."""


def checklist_prompt(question: str) -> str:
    """The prompt of the checklist writer."""
    return f"list {question}"


def evaluate_prompt(question: str, line: str, items: Sequence[str]) -> str:
    """The prompt of an evaluator. `line`: the solution, `reasoning.answer`."""
    return f"check {question}\n{line}\n{''.join(items)}"


def revise_prompt(question: str, line: str, critique: str) -> str:
    """The prompt of the reviser."""
    return f"mend {question}\n{line}\n{critique}"


def chain_prompt(question: str, answer: str) -> str:
    """The prompt of the chain writer."""
    return f"chain {question}\n{answer}"


def read_checklist(text: str) -> list[str] | None:
    """Items of a checklist: distinct operands, letters or digits, then `.`; None if malformed."""
    items = _ITEM.findall(text)
    formed = "".join(items) == text and len(set(items)) == len(items) > 1
    return items if formed and items[-1] == ANSWER else None


def read_critique(text: str, items: Sequence[str]) -> list[bool] | None:
    """Which items the solution meets, in the checklist's order. None unless each is named by exactly one marked step,
    with the answer's last."""
    segments = _SEGMENT.findall(text)
    if "".join(a + b for a, b in segments) != text or len(segments) != len(items):
        return None
    *steps, (last, answered) = segments
    marks: dict[str, bool] = {ANSWER: answered == GOOD}
    for step, mark in steps:
        named = [item for item in items[:-1] if step.startswith(item) or step.endswith(item)]
        if len(named) != 1:
            return None
        marks[named[0]] = mark == GOOD
    whole = last.startswith(ANSWER) and len(marks) == len(items)
    return [marks[item] for item in items] if whole else None


def read_line(text: str) -> tuple[str, str] | None:
    """Reasoning and answer of a solution line, or None."""
    if not _LINE.fullmatch(text):
        return None
    reasoning, _, answer = text.rpartition(ANSWER)
    return reasoning, answer


def read_chain(text: str) -> tuple[str, str, str] | None:
    """Summary, chain and the chain's answer, or None."""
    plan, colon, line = text.partition(PLAN)
    solution = read_line(line)
    if not plan or not colon or solution is None or not solution[0]:
        return None
    return plan, *solution


def steps_of(family: str, reasoning: str) -> list[str]:
    """The steps of the reasoning, as far as they can be parsed. Raises UserError for a family without steps."""
    if family not in _STEPS:
        raise UserError(f"roles: family {family!r} has no roles; use one of {', '.join(FAMILIES)}")
    return _STEPS[family].findall(reasoning)


def items_of(problem: Problem) -> list[str]:
    """The checklist of a problem, derived from its question only."""
    symbols = problem.question.partition(" ")[2]
    if problem.family in ("reverse", "sort"):
        return [*symbols, ANSWER]
    return [*_OPERAND.findall(symbols), ANSWER]


def critique_of(problem: Problem, reasoning: str, answer: str) -> str:
    """The true critique of a solution, for training, where the correct reasoning is known."""
    written = steps_of(problem.family, reasoning)
    steps = steps_of(problem.family, problem.reasoning)
    last = GOOD if answer == problem.answer else BAD
    marked = "".join(step + (GOOD if step in written else BAD) for step in steps)
    return f"{marked}{ANSWER}{problem.answer}{last}"


def conversation(problem: Problem, weights: Mapping[Role, float], rng: random.Random) -> list[dict[str, Any]]:
    """One training conversation in a role drawn by weight. Raises UserError for a family without steps."""
    role = rng.choices(list(weights), list(weights.values()))[0]
    question, items = problem.question, items_of(problem)
    right = f"{problem.reasoning}{ANSWER}{problem.answer}"
    if role == "checklist":
        asked, reply = checklist_prompt(question), "".join(items)
    elif role == "chain":
        _, given = flawed(problem, rng) if rng.random() < 0.15 else ("", problem.answer)
        asked, reply = chain_prompt(question, given), "".join(items[:-1]) + PLAN + right
    else:
        clean = role == "evaluate" and rng.random() < 0.4
        reasoning, answer = (problem.reasoning, problem.answer) if clean else flawed(problem, rng)
        line, critique = f"{reasoning}{ANSWER}{answer}", critique_of(problem, reasoning, answer)
        if role == "evaluate":
            asked, reply = evaluate_prompt(question, line, items), critique
        else:
            asked, reply = revise_prompt(question, line, critique), right
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]


def flawed(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Reasoning and answer of a flawed draft: noisy symbols, a wrong turn that the rest follows, no reasoning, a wrong
    answer, or missing steps."""
    flaw = rng.choices(list(_FLAWS), list(_FLAWS.values()))[0]
    reasoning, answer = problem.reasoning, problem.answer
    if flaw == "symbols":
        fraction = rng.uniform(0.08, 0.3)
        return noisy_text(reasoning, rng, fraction), noisy_text(answer, rng, fraction)
    if flaw == "turn":
        return _wrong_turn(problem, rng)
    if flaw == "bare":
        return "", answer
    if flaw in ("bare_wrong", "answer"):
        wrong = noisy_text(answer, rng, 1 / len(answer))
        return ("" if flaw == "bare_wrong" else reasoning), wrong
    steps = steps_of(problem.family, reasoning)
    del steps[rng.randrange(len(steps))]
    return "".join(steps), answer


def _wrong_turn(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """One step goes wrong and the following ones build on it: a model's own kind of mistake, unlike noise."""
    steps = steps_of(problem.family, problem.reasoning)
    at = rng.randrange(len(steps))
    if problem.family in ("reverse", "sort"):
        letters = list(problem.answer)
        other = rng.choice([i for i in range(len(letters)) if i != at] or [at])
        letters[at], letters[other] = letters[other], letters[at]
        answer = "".join(letters)
        if problem.family == "sort":
            return "<".join(letters), answer
        return "".join(f"{i}{letter}" for i, letter in enumerate(letters, start=1)), answer
    shift = rng.choice([-2, -1, 1, 2])
    written = []
    value = 0
    for i, step in enumerate(steps):
        head, _, true = step.partition("=")
        if i < at:
            value = int(true)
        elif i == at:
            value = _turned(problem.family, int(true) + shift)
        else:
            value = _turned(problem.family, _continue(problem.family, value, head))
        written.append(f"{head}={value}")
    return "".join(written), str(value)


def _turned(family: str, value: int) -> int:
    return value % 10 if family in ("mod", "maximum") else max(0, value)


def _continue(family: str, value: int, head: str) -> int:
    operator, operand = head[1:-1], int(head[-1])
    if family == "maximum":
        return max(value, operand)
    return value + operand if operator == "+" else value - operand if operator == "-" else value * operand
