"""Configuration of the curate stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.quality.config import GradingConfig
from thinkling.sources.base import Extra
from thinkling.stages.base import Need, StageConfig


class NearDedupConfig(BaseModel):
    """Drops documents that share most of their runs of words with an earlier one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the two sets of word runs from which documents count as one. The candidates are found by
    20 bands of 6 MinHash values: sure to be found from 0.8 on, likely from 0.6 on."""
    run: int = Field(default=5, ge=1)
    """Words in a run; in scripts without spaces a character is a word, or half a word in Thai, Lao, Khmer, Burmese."""
    min_words: int = Field(default=50, ge=1)
    """Shorter documents are compared by exact deduplication alone: in them every symbol matters. Characters of scripts
    without spaces are counted as in `run`."""


class CurateConfig(StageConfig):
    """Reads, deduplicates, decontaminates and splits documents into HQ and MQ."""

    kind: Literal["curate"]
    sources: list[str] = Field(min_length=1)
    """Sources of text to read."""
    quality: dict[str, Literal["hq", "mq"]] = Field(default_factory=dict)
    """The quality of each source's documents, where they are not graded. Noisy documents that a source passes under
    a name of their own are always `mq`."""
    near_dedup: NearDedupConfig | None = None
    """Near deduplication beside the exact one; none where not set."""
    grading: GradingConfig | None = None
    """Grades, similarity and the split by value, in place of `quality`."""
    heldout: list[str] = Field(default_factory=list)
    """Sources of type `tasks` whose held-out problems must not occur in the documents."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are quarantined."""
    max_characters: int = Field(default=2_000_000, ge=1)
    """Longer documents are quarantined."""
    ngram: int = Field(default=13, ge=2)
    """Words that a document must share with a held-out problem in prose to be dropped (13: GPT-3, appendix C).
    Without spaces 2 characters of Chinese or Japanese, or 3 letters of Thai and the like, are taken as one."""

    produces: ClassVar[str] = "documents"
    output_version: ClassVar[int] = 2
    roles: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _every_source_once(self) -> CurateConfig:
        for name in self.sources:
            if self.sources.count(name) > 1:
                raise ValueError(f"sources: {name!r} is listed twice")
            if self.grading is None and name not in self.quality:
                raise ValueError(f"quality.{name}: missing; say hq or mq")
        for name in self.quality:
            if name not in self.sources:
                raise ValueError(f"quality.{name}: is not one of the stage's sources")
        return self

    @model_validator(mode="after")
    def _grading_fits(self) -> CurateConfig:
        if self.grading is None:
            return self
        if self.quality:
            raise ValueError("quality: with grading each document gets its own; remove one of the two")
        for field in ("seeds", "annotated", "bytes_per_token"):
            named = getattr(self.grading, field)
            for name in named if isinstance(named, dict) else ():
                if name not in self.sources:
                    raise ValueError(f"grading.{field}: {name} is not one of the stage's sources")
        if isinstance(sizes := self.grading.bytes_per_token, dict):
            for name in self.sources:
                if name not in sizes:
                    raise ValueError(
                        f"grading.bytes_per_token.{name}: missing; give one for every source, or one for all"
                    )
        return self

    @property
    def depends_on_threads(self) -> bool:
        """Grading fits linear models, whose sums BLAS cuts by threads."""
        return self.grading is not None

    def needs(self) -> list[Need]:
        read = [Need("sources", name, "documents") for name in self.sources]
        return read + [Need("heldout", name, "problems", "heldout") for name in self.heldout]

    def extras(self) -> list[Extra]:
        near = [Extra("near_dedup", ("rensa",), "curate", "leave near_dedup out")] if self.near_dedup else []
        graded = ("lancedb", "scipy", "sklearn", "threadpoolctl")
        return near + ([Extra("grading", graded, "curate", "say quality by source")] if self.grading else [])

    def digested_paths(self) -> dict[str, Path]:
        labeller = None if self.grading is None else self.grading.labeller
        return {} if labeller is None else {"grading.labeller": labeller}
