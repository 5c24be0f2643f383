"""Configuration of the curate stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from thinkling.stages.base import StageConfig


class CurateConfig(StageConfig):
    """Reads, deduplicates, decontaminates and splits documents into HQ and MQ."""

    kind: Literal["curate"]
    sources: list[str] = Field(min_length=1)
    """Sources of text to read."""
    quality: dict[str, Literal["hq", "mq"]]
    """Rule of the first version: the quality of each source's documents. Damaged puzzle pages are always `mq`."""
    heldout: list[str] = Field(default_factory=list)
    """Sources of type `tasks` whose held-out problems must not occur in the documents."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are quarantined."""
    max_characters: int = Field(default=2_000_000, ge=1)
    """Longer documents are quarantined."""
    ngram: int = Field(default=13, ge=2)
    """Words that a document must share with a held-out problem in prose to be dropped (13: GPT-3, appendix C)."""

    produces: ClassVar[str] = "documents"
    roles: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _every_source_once(self) -> CurateConfig:
        for name in self.sources:
            if self.sources.count(name) > 1:
                raise ValueError(f"sources: {name!r} stands there twice")
            if name not in self.quality:
                raise ValueError(f"quality.{name}: missing; say hq or mq")
        for name in self.quality:
            if name not in self.sources:
                raise ValueError(f"quality.{name}: is none of the stage's sources")
        return self

    def source_names(self) -> list[str]:
        return [*self.sources, *self.heldout]
