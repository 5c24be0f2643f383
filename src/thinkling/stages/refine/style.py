"""The interface of a style, which defines how roles are prompted and how replies are parsed. No role ever sees a
reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from thinkling.generate.backends import Reply


@dataclass(frozen=True)
class Solution:
    """A draft or a revision: its reasoning, which may be empty, and its answer."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Chain:
    """A reconstructed chain of thought."""

    summary: str
    text: str
    agrees: bool
    """Whether the chain arrives at the given solution."""


class Style(Protocol):
    """Prompts of the roles, and parsers of their replies. A parser returns None if a reply is not well-formed, and
    never guesses."""

    def refuses(self, family: str) -> str | None:
        """Returns the reason why the style cannot handle problems of this family, or None if it can."""
        ...

    def is_noisy(self, seed: int, key: str) -> bool:
        """Whether noise is added to a job's draft on purpose, so that the draft has faults to revise. Used only in
        demos."""
        ...

    def with_noise(self, solution: Solution, seed: int, key: str) -> Solution:
        """Returns the draft of a noisy job with noise added to it. The noise does not depend on the reference
        answer."""
        ...

    def draft(self, reply: Reply) -> Solution | None: ...
    def checklist_prompt(self, question: str) -> str: ...
    def checklist(self, text: str) -> list[str] | None: ...
    def evaluate_prompt(self, question: str, solution: Solution, items: Sequence[str]) -> str: ...
    def critique(self, text: str, items: Sequence[str]) -> list[bool] | None: ...
    def revise_prompt(self, question: str, solution: Solution, items: Sequence[str], critique: str) -> str: ...
    def revision(self, text: str) -> Solution | None: ...
    def chain_prompt(self, question: str, solution: Solution) -> str: ...
    def chain(self, text: str, solution: Solution) -> Chain | None: ...
