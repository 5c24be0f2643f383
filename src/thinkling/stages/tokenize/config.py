"""Configuration of the tokenize stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from thinkling.stages.base import StageConfig


class TokenizeConfig(StageConfig):
    """Trains the recipe's tokenizer, or uses an existing one, and writes shards named `<quality>-<source>`."""

    kind: Literal["tokenize"]
    validation_fraction: float = Field(default=0.01, ge=0, lt=0.5)
    """Fraction of each source's documents that is held out to measure the loss on unseen text. The documents are
    selected by a hash of their id."""
    training_characters: int = Field(default=8_000_000, ge=1)
    """Maximum number of characters on which a new tokenizer is trained, split equally across sources. Has no effect if
    the recipe specifies an existing tokenizer."""

    output_version: ClassVar[int] = 4
    produces: ClassVar[str] = "tokens"
    roles: ClassVar[Mapping[str, str]] = {"documents": "documents"}
    uses: ClassVar[frozenset[str]] = frozenset({"tokenizer"})
