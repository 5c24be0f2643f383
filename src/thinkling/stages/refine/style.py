"""How the roles are asked and how their replies are read: what a style provides. No role is ever shown a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from thinkling.generate.backends import Reply


@dataclass(frozen=True)
class Solution:
    """A draft or a revision: its reasoning, which may be empty, and what is answered."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Chain:
    """A reconstructed chain of thought."""

    summary: str
    text: str
    agrees: bool
    """Whether it comes to the solution that it was asked for."""


class Style(Protocol):
    """Prompts, and readers that give None where a reply is not in form: a reply is never guessed at."""

    def refuses(self, family: str) -> str | None:
        """Why it cannot serve problems of this family; None if it can."""
        ...

    def is_noisy(self, seed: int, key: str) -> bool:
        """Whether a job's draft gets noise on purpose, so that there is something to refine. Never, outside demos."""
        ...

    def with_noise(self, solution: Solution, seed: int, key: str) -> Solution:
        """A noisy job's draft with its noise. The right answer plays no part in it."""
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
