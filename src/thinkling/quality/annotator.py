"""Interface for grading the labeller's training examples: fixed rules (`rules`) or a served model
(`served_annotator`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from thinkling.data.truth import Matter, Truth
from thinkling.quality.tags import Grades


@dataclass(frozen=True)
class Example:
    """A text to grade, with what is known about it beyond the text. Only `text` is used for features."""

    text: str
    matter: Matter = "unknown"
    truth: Truth | None = None
    """What the source knows about the record, if anything."""
    damage: str = ""
    """Kind of artificial damage applied to the text; empty if none."""
    damaged_fraction: float = 0.0
    """Fraction of the text that was damaged."""


class Annotator(Protocol):
    """Grades examples."""

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        """Grades of each example, by tag; tags that cannot be judged are omitted."""
        ...
