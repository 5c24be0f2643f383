"""The refine style `puzzles`: short forms that a model of 0.3M parameters can learn (refinement.py)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from thinkling.puzzles import refinement
from thinkling.puzzles.noise import noisy_text
from thinkling.seeds import derive
from thinkling.stages.refine.style import Chain, Solution

if TYPE_CHECKING:
    from thinkling.generate.backends import Reply


class PuzzleStyle(BaseModel):
    """Implements `Style`. A solution is one line, `reasoning.answer`. The fields are the style's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of drafts that are noisy. No role can see which."""
    noise_strength: float = Field(default=0.2, gt=0, le=1)
    """Fraction of a noisy draft's digits, capitals and operators that are replaced."""

    def refuses(self, family: str) -> str | None:
        known = refinement.FAMILIES
        return None if family in known else f"the style puzzles has no roles for it, only for {', '.join(known)}"

    def is_noisy(self, seed: int, key: str) -> bool:
        # These stream names predate the word "noise"; renaming them would draw other drafts.
        return random.Random(derive(seed, "corrupted", key)).random() < self.noise_fraction

    def with_noise(self, solution: Solution, seed: int, key: str) -> Solution:
        rng = random.Random(derive(seed, "damage", key))
        reasoning = noisy_text(solution.reasoning, rng, self.noise_strength)
        return Solution(reasoning, noisy_text(solution.answer, rng, self.noise_strength))

    def draft(self, reply: Reply) -> Solution | None:
        return self.revision(_line(Solution(reply.reasoning, reply.text)))

    def checklist_prompt(self, question: str) -> str:
        return refinement.checklist_prompt(question)

    def checklist(self, text: str) -> list[str] | None:
        return refinement.read_checklist(text)

    def evaluate_prompt(self, question: str, solution: Solution, items: Sequence[str]) -> str:
        return refinement.evaluate_prompt(question, _line(solution), items)

    def critique(self, text: str, items: Sequence[str]) -> list[bool] | None:
        return refinement.read_critique(text, items)

    def revise_prompt(self, question: str, solution: Solution, items: Sequence[str], critique: str) -> str:
        return refinement.revise_prompt(question, _line(solution), critique)

    def revision(self, text: str) -> Solution | None:
        found = refinement.read_line(text)
        return None if found is None else Solution(*found)

    def chain_prompt(self, question: str, solution: Solution) -> str:
        return refinement.chain_prompt(question, solution.answer)

    def chain(self, text: str, solution: Solution) -> Chain | None:
        found = refinement.read_chain(text)
        if found is None:
            return None
        summary, chain, answer = found
        return Chain(summary, chain, answer == solution.answer)


def _line(solution: Solution) -> str:
    return f"{solution.reasoning}{refinement.ANSWER}{solution.answer}"
