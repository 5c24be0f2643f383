"""Noisy reasoning: deliberately imperfect training text, so that later stages have something to improve."""

from __future__ import annotations

import dataclasses
import random
from string import ascii_uppercase, digits

from thinkling.data.symbols import replace_symbols
from thinkling.generate.tools import resolve
from thinkling.puzzles.families import FAMILIES
from thinkling.tasks.problem import Problem

ALPHABETS = (digits, ascii_uppercase, "+-*")
"""A symbol is only replaced by another one of the same alphabet; all other characters are structure and are kept."""


def noisy_text(text: str, rng: random.Random, fraction: float) -> str:
    """Replaces `fraction` of a text's puzzle symbols, each by a different one of its alphabet (`replace_symbols`)."""
    return replace_symbols(text, rng, fraction, ALPHABETS)


def add_noise(problem: Problem, rng: random.Random, fraction: float, answer: bool = False) -> Problem:
    """The problem with `fraction` of its reasoning's symbols replaced; id and question are unchanged.

    Without a tool the answer remains correct, unless `answer` is true: then its symbols are replaced at the same rate.
    With a tool the expression is noisy as well (it is the noisy reasoning itself in a family that only copies it), and
    the answer is the tool's actual result: it is wrong, but consistent with the response next to it (`answer` adds
    further noise). A family with its
    own `noise` uses that instead, answer included: a program follows its noisy reasoning. The result is training text
    only: never verify against it.
    """
    noise = FAMILIES[problem.family].noise if problem.family in FAMILIES else None
    if noise is not None:
        reasoning, result = noise(problem, rng, fraction)
        return dataclasses.replace(problem, reasoning=reasoning, answer=result)
    reasoning = noisy_text(problem.reasoning, rng, fraction)
    call, result = None, problem.answer
    if problem.call is not None:
        expression = problem.call["expression"]
        call = {"expression": reasoning if expression == problem.reasoning else noisy_text(expression, rng, fraction)}
        result = resolve(problem.tools[0]).session().run(call)
    if answer:
        result = noisy_text(result, rng, fraction)
    return dataclasses.replace(problem, reasoning=reasoning, answer=result, call=call)
