"""A problem that can be checked: what a source yields and a verifier reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.1
"""Fraction of every family's problems that no training data may contain."""


def problem_id(family: str, question: str) -> str:
    """First 16 hex digits of SHA-256 over family and question: the same question is the same problem everywhere."""
    return hashlib.sha256(f"{family}\n{question}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Problem:
    """One question, what is known of its solution, and the name of what checks an answer."""

    id: str
    family: str
    """The kind of problem, by which counts and scores are broken down."""
    question: str
    answer: str
    """The reference answer, in the form that the verifier compares with."""
    reasoning: str
    """The reasoning that leads to the answer; empty where it is not known."""
    verifier: str
    """Name of a verifier: built in, or an entry point of the group `thinkling.verifiers`."""
    tools: tuple[str, ...] = ()
    """Names of the tools that may be called: built in, or entry points of the group `thinkling.tools`."""
    announce_tools: bool = True
    """Whether the prompt lists the tools with their schemas; False where the model already knows when to call them."""
    call: Mapping[str, Any] | None = field(default=None, hash=False)
    """Arguments of the one call in the known solution, to the first of `tools`; None where it has none."""
    difficulty: Mapping[str, int | str] = field(default_factory=dict, compare=False)
    tests: tuple[str, ...] = field(default=(), compare=False)
    """Python statements, such as `assert f(3) == 7`, that the prompt shows or may show."""
    hidden_tests: tuple[str, ...] = field(default=(), compare=False)
    """Further tests, for the verifier alone."""
    setup: str = field(default="", compare=False)
    """Python code that a program and its tests find run before them: imports, classes, helpers. No part of the
    question."""
    choices: tuple[str, ...] = ()
    """The options of a multiple-choice question, in the order of their letters."""
    bare: str = ""
    """The question without the instructions around it, where it has some: what decontamination looks for."""
    system: str = ""
    """System message that the question is asked under; none if empty."""


def split(problem: Problem) -> Split:
    """The split of a problem, by hash of family and question: every tenth is held out, for any seed or recipe."""
    return "heldout" if int(problem.id, 16) < HELDOUT_SHARE * 16**16 else "train"
