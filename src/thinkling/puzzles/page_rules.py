"""Truth about a page: its problem. Grades pages by the problem's verifier and the correct reasoning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thinkling.data.reading import Reading
from thinkling.puzzles.pages import document, document_answer
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome

_PAGE = re.compile(r"[a-z]+ \S+?(?:=[^\n]+|:.+\.[^\n]+)\n", re.DOTALL)
_QUESTION = re.compile(r"[a-z]+ \S+?[:=]")
_CHEAP = ("exact", "calculator")
"""Verifiers that merely compare. Others may require a sandbox or a model; with those, a page is compared with its own
problem."""


@dataclass(frozen=True)
class PageCheck:
    """A verifier's findings on a page."""

    answered: bool
    """Whether the page shows any answer."""
    right: bool
    """Whether the answer is right."""
    reasoning: float | None
    """Fraction of the correct reasoning's symbols that are in place; None if the page shows no reasoning."""

    @property
    def sound(self) -> bool:
        """Whether everything on the page is right."""
        return self.right and self.reasoning in (None, 1.0)


def check_page(problem: Problem, text: str) -> PageCheck:
    """Verifies the answer on a page and compares its reasoning with the correct reasoning."""
    rest = text[len(problem.question) :]
    if rest.startswith("="):
        answer, reasoning = rest[1:].strip(), None
    else:
        answer = document_answer(rest[1:])
        start = len(problem.question) + 1
        wanted, found = document(problem)[start:], text[start:]
        reasoning = sum(a == b for a, b in zip(wanted, found, strict=False)) / max(len(wanted), len(found), 1)
    if problem.verifier in _CHEAP:
        right = bool(answer) and verify(problem, Reading.of(answer)).outcome is Outcome.RIGHT
    else:
        right = rest.endswith(f"{'=' if reasoning is None else '.'}{problem.answer}\n")
    return PageCheck(bool(answer), right, reasoning)


@dataclass(frozen=True)
class PageTruth:
    """A `data.truth.Truth` that grades pages by their problem."""

    problem: Problem

    @property
    def damage_kinds(self) -> tuple[str, ...]:
        """Kinds that leave something to grade on a one-line page."""
        return ("symbols", "characters", "order", "cut")

    @property
    def damaged_one_in(self) -> int:
        """Few, since the pool's own wrong pages are the ones to be detected."""
        return 4

    @property
    def unsound_as(self) -> str:
        """The effect of the source's noise on a page."""
        return "symbols"

    def grades(self, text: str) -> Mapping[str, float | None]:
        """Grades 0 to 9, before rounding:

        - correctness: 9 if answer and reasoning are right, up to 8 with a right answer, up to 4 with a wrong one, by
          the fraction of the reasoning that is right.
        - reasoning, coherence: 1 without reasoning, otherwise 2 to 9 by the fraction that is right; explanation: half
          of it.
        - completeness: 9 with question, answer and end of line, otherwise 2.
        - casing, punctuation: cannot be judged.
        """
        check = check_page(self.problem, text)
        steps = 1.0 if check.reasoning is None else 2 + 7 * max(0.0, 2 * check.reasoning - 1)
        return {
            "correctness": _correctness(check),
            "reasoning": steps,
            "completeness": 9.0 if check.answered and _PAGE.fullmatch(text) else 2.0,
            "coherence": steps,
            "explanation": steps / 2,
            "casing": None,
            "punctuation": None,
        }

    def sound(self, text: str) -> bool:
        """Whether the verifier accepts the answer and the reasoning is entirely right."""
        return check_page(self.problem, text).sound

    def protected_prefix(self, text: str) -> int:
        """The question, so that only reasoning and answer are damaged."""
        question = _QUESTION.match(text)
        return question.end() if question else 0


def _correctness(check: PageCheck) -> float:
    fraction = 1.0 if check.reasoning is None else check.reasoning
    if check.right:
        return 9.0 if fraction == 1.0 else min(8.0, 3 + 5 * fraction)
    return 0.0 if check.reasoning is None else 4 * fraction
