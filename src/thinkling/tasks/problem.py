"""A problem whose answer can be verified, as yielded by sources and consumed by verifiers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.1
"""Fraction of the problems of every family that is held out from all training data."""


def problem_id(family: str, question: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of family and question, so that a question has the same id
    everywhere."""
    return hashlib.sha256(f"{family}\n{question}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Problem:
    """A question with its known solution and the name of its verifier."""

    id: str
    family: str
    """The kind of problem. Counts and scores are reported per family."""
    question: str
    answer: str
    """The reference answer, in the form that the verifier expects."""
    reasoning: str
    """The reasoning that leads to the answer; empty if unknown."""
    verifier: str
    """Name of a built-in verifier, or of an entry point in the group `thinkling.verifiers`."""
    tools: tuple[str, ...] = ()
    """Names of the tools that the model may call: built-in tools, or entry points in the group `thinkling.tools`."""
    announce_tools: bool = True
    """Whether the prompt lists the tools with their schemas. False if the model has learned to call them without a
    list."""
    call: Mapping[str, Any] | None = field(default=None, hash=False)
    """Arguments of the only tool call in the known solution, which calls the first of `tools`; None if there is no
    call."""
    difficulty: Mapping[str, int | str] = field(default_factory=dict, compare=False)
    tests: tuple[str, ...] = field(default=(), compare=False)
    """Public tests, which the prompt may show: Python statements such as `assert f(3) == 7`."""
    hidden_tests: tuple[str, ...] = field(default=(), compare=False)
    """Additional tests that only the verifier sees."""
    setup: str = field(default="", compare=False)
    """Python code that is run before a program and its tests, such as imports and helpers. Not part of the question."""
    choices: tuple[str, ...] = ()
    """The options of a multiple-choice question, in the order of their letters (A, B, …)."""
    bare: str = ""
    """The question without surrounding instructions, used by decontamination; empty if there are no instructions."""
    system: str = ""
    """System message of the question; empty for none."""


def split(problem: Problem) -> Split:
    """Return the split of a problem, which depends only on the problem's id: one problem in ten is held out, with any
    seed and recipe."""
    return "heldout" if int(problem.id, 16) < HELDOUT_SHARE * 16**16 else "train"
