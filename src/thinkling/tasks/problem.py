"""A checkable problem: what a source yields and a verifier consumes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.1
"""Fraction of every family's problems that no training data may contain."""


def problem_id(family: str, question: str) -> str:
    """First 16 hex digits of SHA-256 over family and question: the same question has the same id everywhere."""
    return hashlib.sha256(f"{family}\n{question}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Problem:
    """One question, what is known about its solution, and the name of its verifier."""

    id: str
    family: str
    """The kind of problem, by which counts and scores are broken down."""
    question: str
    answer: str
    """The reference answer, in the form that the verifier compares with."""
    reasoning: str
    """The reasoning that leads to the answer; empty if unknown."""
    verifier: str
    """Name of a verifier: built in, or an entry point of the group `thinkling.verifiers`."""
    tools: tuple[str, ...] = ()
    """Names of the tools that may be called: built in, or entry points of the group `thinkling.tools`."""
    announce_tools: bool = True
    """Whether the prompt lists the tools with their schemas; False if the model already knows when to call them."""
    call: Mapping[str, Any] | None = field(default=None, hash=False)
    """Arguments of the single call in the known solution, to the first of `tools`; None if it has none."""
    difficulty: Mapping[str, int | str] = field(default_factory=dict, compare=False)
    tests: tuple[str, ...] = field(default=(), compare=False)
    """Python statements, such as `assert f(3) == 7`, that the prompt shows or may show."""
    hidden_tests: tuple[str, ...] = field(default=(), compare=False)
    """Further tests, visible only to the verifier."""
    setup: str = field(default="", compare=False)
    """Python code that runs before a program and its tests: imports, classes, helpers. Not part of the question."""
    choices: tuple[str, ...] = ()
    """The options of a multiple-choice question, in the order of their letters."""
    bare: str = ""
    """The question without surrounding instructions, if it has any: used by decontamination."""
    system: str = ""
    """System message of the question; empty for none."""


def split(problem: Problem) -> Split:
    """The split of a problem, by a hash of family and question: one in ten is held out, for any seed or recipe."""
    return "heldout" if int(problem.id, 16) < HELDOUT_SHARE * 16**16 else "train"
