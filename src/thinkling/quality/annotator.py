"""Grades for the labeller to learn from: by stated rules, by verifiers, or by a served model.

`RuleAnnotator` reads whole texts with means that the labeller lacks: it parses code, solves the puzzle on a page, knows
which words the pool knows and how far an example was damaged. Each tag's rule is one function of `rules`, and its
docstring states it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from thinkling.quality.tags import Grades
from thinkling.tasks.problem import Problem

Matter = Literal["code", "prose", "puzzle", "unknown"]
"""What kind of text an example is, as far as its source says; `unknown`: text of the user's."""


@dataclass(frozen=True)
class Example:
    """A text to grade, and what is known of it beside its wording. Nothing of this but `text` becomes a feature."""

    text: str
    matter: Matter
    problem: Problem | None = None
    """The problem on a puzzle page."""
    damage: str = ""
    """Kind of damage that was done to it on purpose."""
    share: float = 0.0
    """Part of the text that was damaged."""


class Annotator(Protocol):
    """Whoever grades: rules here, or a model behind `served.ServedAnnotator`."""

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        """Grades of each example, by tag; a tag that cannot be judged is left out."""
        ...
