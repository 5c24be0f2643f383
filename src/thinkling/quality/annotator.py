"""Interface for grading the labeller's training examples, implemented by fixed rules (`rules`) and by a served model
(`served_annotator`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from thinkling.data.truth import Matter, Truth
from thinkling.quality.tags import Grades


@dataclass(frozen=True)
class Example:
    """A text to grade, with metadata for the annotator. Features are computed from `text` alone."""

    text: str
    matter: Matter = "unknown"
    truth: Truth | None = None
    """Ground truth that the source provides about the record, if any."""
    damage: str = ""
    """The kind of artificial damage applied to the text; empty if the text is undamaged."""
    damaged_fraction: float = 0.0
    """The fraction of the text that was damaged."""


class Annotator(Protocol):
    """An object that grades examples."""

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        """Return the grades of each example by tag, without the tags that cannot be judged for the example."""
        ...
