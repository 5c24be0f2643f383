"""A checkable problem: what a task yields, what a verifier reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.1
"""Share of every family's problems that no training data may contain."""


def problem_id(family: str, question: str) -> str:
    """First 16 hex digits of SHA-256 over family and question: the same question is the same problem everywhere."""
    return hashlib.sha256(f"{family}\n{question}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Problem:
    """One question with its right answer, the working that leads there, and the name of what checks an answer.

    `question` starts with the family's lower-case word; in a puzzle capitals, digits and punctuation only follow the
    space, so that every symbol is one token. `tool_call` is the expression handed to `tool`, both None without a tool.
    """

    id: str
    family: str
    question: str
    answer: str
    trace: str
    verifier: str
    tool: str | None = None
    tool_call: str | None = None
    difficulty: Mapping[str, int | str] = field(default_factory=dict, compare=False)
    tests: tuple[str, ...] = field(default=(), compare=False)
    """Python statements, such as `assert f(3) == 7`, that the asker shows or may show."""
    hidden_tests: tuple[str, ...] = field(default=(), compare=False)
    """Further ones that nobody but the verifier sees."""


def split(problem: Problem) -> Split:
    """The side a problem is on, by hash of family and question: every tenth is held out, for any seed or recipe."""
    return "heldout" if int(problem.id, 16) < HELDOUT_SHARE * 16**16 else "train"
