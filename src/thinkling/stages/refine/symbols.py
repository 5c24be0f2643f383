"""The style `symbols`: puzzles/refinement.py, for models that the recipe trains itself."""

from __future__ import annotations

from collections.abc import Sequence

from thinkling.generate.backends import Reply
from thinkling.puzzles import refinement
from thinkling.stages.refine.style import Chain, Solution


class Symbols:
    """Implements `Style`. A solution is one line, `working.answer`."""

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
    return f"{solution.working}{refinement.ANSWER}{solution.answer}"
