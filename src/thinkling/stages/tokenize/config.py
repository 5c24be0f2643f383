"""Configuration of the tokenize stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from thinkling.stages.base import StageConfig


class TokenizeConfig(StageConfig):
    """Trains the recipe's tokenizer (or takes a given one) and writes shards named `<quality>-<source>`."""

    kind: Literal["tokenize"]
    validation_fraction: float = Field(default=0.01, ge=0, lt=0.5)
    """Share of each source's documents that are put aside to measure loss on unseen text, by a hash of the id."""
    training_characters: int = Field(default=8_000_000, ge=1)
    """Characters, at most, that a new tokenizer is trained on, shared out equally over the sources. Without effect
    where the recipe gives a tokenizer."""

    output_version: ClassVar[int] = 3
    produces: ClassVar[str] = "tokens"
    roles: ClassVar[Mapping[str, str]] = {"documents": "documents"}
    uses: ClassVar[frozenset[str]] = frozenset({"tokenizer"})
