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
    """Drops documents that share most of their word n-grams with an earlier document."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of two documents' sets of word n-grams at which they count as duplicates. Candidates come from
    20 bands of 6 MinHash values: pairs at 0.8 or above are found almost surely, from 0.6 on most likely."""
    run: int = Field(default=5, ge=1)
    """Words per n-gram. In scripts without spaces each character counts as a word (Thai, Lao, Khmer, Burmese: as half a
    word)."""
    min_words: int = Field(default=50, ge=1)
    """Documents with fewer words are only deduplicated exactly, since every symbol matters in a short text. Scripts
    without spaces are counted as in `run`."""


class CurateConfig(StageConfig):
    """Reads, deduplicates and decontaminates documents, and splits them into HQ and MQ."""

    kind: Literal["curate"]
    sources: list[str] = Field(min_length=1)
    """Text sources to read."""
    quality: dict[str, Literal["hq", "mq"]] = Field(default_factory=dict)
    """Quality of each source's documents if they are not graded. Noisy documents that a source emits under a separate
    name are always `mq`."""
    near_dedup: NearDedupConfig | None = None
    """Near deduplication, in addition to exact deduplication; disabled if not set."""
    grading: GradingConfig | None = None
    """Grades documents and splits them by quality value and similarity to seeds; replaces `quality`."""
    heldout: list[str] = Field(default_factory=list)
    """Sources of problems whose held-out split must not occur in the documents."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are rejected."""
    max_characters: int = Field(default=2_000_000, ge=1)
    """Longer documents are rejected."""
    ngram: int = Field(default=13, ge=2)
    """Number of consecutive words that a document must share with a held-out prose problem to be dropped (13: GPT-3,
    appendix C). In scripts without spaces, 2 characters (Chinese, Japanese) or 3 letters (Thai and similar) count as
    one word."""

    produces: ClassVar[str] = "documents"
    output_version: ClassVar[int] = 2
    roles: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _every_source_once(self) -> CurateConfig:
        for name in self.sources:
            if self.sources.count(name) > 1:
                raise ValueError(f"sources: {name!r} is listed twice")
            if self.grading is None and name not in self.quality:
                raise ValueError(f"quality.{name}: missing; set it to hq or mq")
        for name in self.quality:
            if name not in self.sources:
                raise ValueError(f"quality.{name}: is not one of the stage's sources")
        return self

    @model_validator(mode="after")
    def _grading_fits(self) -> CurateConfig:
        if self.grading is None:
            return self
        if self.quality:
            raise ValueError("quality: grading sets the quality of each document; remove one of the two")
        for field in ("seeds", "annotated", "bytes_per_token"):
            named = getattr(self.grading, field)
            for name in named if isinstance(named, dict) else ():
                if name not in self.sources:
                    raise ValueError(f"grading.{field}: {name} is not one of the stage's sources")
        if isinstance(sizes := self.grading.bytes_per_token, dict):
            for name in self.sources:
                if name not in sizes:
                    raise ValueError(
                        f"grading.bytes_per_token.{name}: missing; set it for every source, or use a single number"
                    )
        return self

    @property
    def depends_on_threads(self) -> bool:
        """Grading fits linear models, and BLAS splits their sums by thread."""
        return self.grading is not None

    def needs(self) -> list[Need]:
        read = [Need("sources", name, "documents") for name in self.sources]
        return read + [Need("heldout", name, "problems", "heldout") for name in self.heldout]

    def extras(self) -> list[Extra]:
        near = [Extra("near_dedup", ("rensa",), "curate", "remove near_dedup")] if self.near_dedup else []
        graded = ("lancedb", "scipy", "sklearn", "threadpoolctl")
        return near + ([Extra("grading", graded, "curate", "set quality per source")] if self.grading else [])

    def digested_paths(self) -> dict[str, Path]:
        labeller = None if self.grading is None else self.grading.labeller
        return {} if labeller is None else {"grading.labeller": labeller}
