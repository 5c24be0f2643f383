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
    """Near deduplication, which rejects documents that share most of their word n-grams with an earlier document."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Two documents count as near duplicates if the Jaccard similarity of their sets of word n-grams is at least this
    value. Candidate pairs are found with 20 bands of 6 MinHash values. The bands find almost all pairs with a
    similarity of 0.8 or above, and most pairs with a similarity of 0.6 or above."""
    run: int = Field(default=5, ge=1)
    """Number of words per n-gram. In scripts without spaces, each character counts as one word (in Thai, Lao, Khmer and
    Burmese, as half a word)."""
    min_words: int = Field(default=50, ge=1)
    """Minimum number of words for near deduplication. Shorter documents are only deduplicated exactly, because every
    symbol matters in a short text. Scripts without spaces are counted as in `run`."""


class CurateConfig(StageConfig):
    """Reads, deduplicates and decontaminates documents, and splits them into HQ and MQ."""

    kind: Literal["curate"]
    sources: list[str] = Field(min_length=1)
    """Names of the text sources to read."""
    quality: dict[str, Literal["hq", "mq"]] = Field(default_factory=dict)
    """Name of a source → quality of the source's documents, `hq` or `mq`. Required for every source unless `grading` is
    set. Noisy documents that a source emits under a separate name are always `mq`."""
    near_dedup: NearDedupConfig | None = None
    """Settings for near deduplication, which follows exact deduplication. If not set, only exact duplicates are
    removed."""
    grading: GradingConfig | None = None
    """Settings for grading each document, and for splitting the documents into HQ, MQ and rejected documents by quality
    value and by similarity to seed documents. If set, `quality` must not be set."""
    heldout: list[str] = Field(default_factory=list)
    """Names of sources of problems. Documents that contain a problem from the held-out split of one of these sources
    are rejected."""
    min_characters: int = Field(default=1, ge=1)
    """Minimum number of characters. Shorter documents are rejected."""
    max_characters: int = Field(default=2_000_000, ge=1)
    """Maximum number of characters. Longer documents are rejected."""
    ngram: int = Field(default=13, ge=2)
    """Number of consecutive words that a document must share with a held-out prose problem to be rejected. The default,
    13, is taken from GPT-3 (appendix C). In scripts without spaces, 2 characters (Chinese, Japanese) or 3 letters (Thai
    and similar scripts) count as one word."""

    produces: ClassVar[str] = "documents"
    output_version: ClassVar[int] = 2
    roles: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _every_source_once(self) -> CurateConfig:
        for name in self.sources:
            if self.sources.count(name) > 1:
                raise ValueError(f"sources: {name!r} is listed twice; remove one of the entries")
            if self.grading is None and name not in self.quality:
                raise ValueError(f"quality.{name}: missing; set it to hq or mq, or set grading")
        for name in self.quality:
            if name not in self.sources:
                raise ValueError(f"quality.{name}: not one of the stage's sources; remove it, or add {name} to sources")
        return self

    @model_validator(mode="after")
    def _grading_fits(self) -> CurateConfig:
        if self.grading is None:
            return self
        if self.quality:
            raise ValueError(
                "quality: has no effect, because grading sets the quality of each document; remove quality"
            )
        for field in ("seeds", "annotated", "bytes_per_token"):
            named = getattr(self.grading, field)
            for name in named if isinstance(named, dict) else ():
                if name not in self.sources:
                    raise ValueError(f"grading.{field}: {name} is not one of the stage's sources; remove it")
        if isinstance(sizes := self.grading.bytes_per_token, dict):
            for name in self.sources:
                if name not in sizes:
                    raise ValueError(
                        f"grading.bytes_per_token.{name}: missing; set it for every source, or use a single number"
                    )
        return self

    @property
    def depends_on_threads(self) -> bool:
        """True if `grading` is set, because grading fits linear models, and BLAS divides the sums of the fit among
        threads."""
        return self.grading is not None

    def needs(self) -> list[Need]:
        read = [Need("sources", name, "documents") for name in self.sources]
        return read + [Need("heldout", name, "problems", "heldout") for name in self.heldout]

    def extras(self) -> list[Extra]:
        near = [Extra("near_dedup", ("rensa",), "curate", "remove near_dedup")] if self.near_dedup else []
        graded = ("lancedb", "scipy", "sklearn", "threadpoolctl")
        return near + ([Extra("grading", graded, "curate", "replace grading with quality")] if self.grading else [])

    def digested_paths(self) -> dict[str, Path]:
        labeller = None if self.grading is None else self.grading.labeller
        return {} if labeller is None else {"grading.labeller": labeller}
