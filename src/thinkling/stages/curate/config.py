"""Configuration of the curate stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.quantities import Tokens
from thinkling.stages.base import StageConfig
from thinkling.stages.curate.tags import HIGHEST, NAMES


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NearDedupConfig(_Part):
    """Drops documents that share most of their runs of words with an earlier one."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the two sets of word runs from which documents count as one. The candidates are found by
    20 bands of 6 MinHash values: sure to be found from 0.8 on, likely from 0.6 on."""
    run: int = Field(default=5, ge=1)
    """Words in a run."""
    min_words: int = Field(default=50, ge=1)
    """Shorter documents are compared by exact deduplication alone: in a puzzle every symbol matters."""


class ServedAnnotatorConfig(_Part):
    """A served model that grades the examples for the labeller."""

    url: str = Field(pattern=r"^https?://")
    """Base address of a server with OpenAI's chat completions, such as `http://localhost:8000/v1`."""
    model: str = Field(min_length=1)
    key_variable: str | None = None
    """Environment variable that holds the key, where the server wants one."""
    concurrency: int = Field(default=8, ge=1)
    """Questions at a time."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds to wait for an answer."""


class GradingConfig(_Part):
    """Grades every document on 20 tags, compares it with seeds, and splits by one quality value (RECIPE.md §2)."""

    seeds: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Source → number of its documents that serve as seeds: queries of retrieval, and the signal that the weights of
    the quality value are fitted to. Puzzle pages are seeds only where a verifier finds them right."""
    hq_tokens: Tokens
    """Budget of high-quality text: the best documents until it is full."""
    mq_tokens: Tokens | None = None
    """Budget of medium-quality text: the next best; what is left is rejected. Without it everything else is kept."""
    bytes_per_token: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] = 4.0
    """By which budgets are counted, since the tokenizer comes later (large vocabularies: 4 to 4.5); one for all sources
    or one for each."""
    minimum: dict[str, Annotated[int, Field(ge=0, le=HIGHEST)]] = Field(default_factory=dict)
    """Tag → grade below which a document is rejected whatever its value."""
    annotator: Literal["rules"] | ServedAnnotatorConfig = "rules"
    """Who grades the examples that the labeller learns from."""
    annotated: Annotated[int, Field(ge=100)] | dict[str, Annotated[int, Field(ge=1)]] = 3000
    """Documents that are annotated, spread equally over the sources, or so many of each; the sound ones come again
    damaged on purpose."""
    fitted_on: int = Field(default=8000, ge=100)
    """Documents, at most, that the LSA is fitted on."""
    dimensions: int = Field(default=128, ge=2)
    """Length of the LSA vectors."""
    ridge: float = Field(default=0.3, gt=0)
    """Penalty of the labeller's regressions."""
    neighbours: int = Field(default=300, ge=1)
    """Documents a seed that full-text search finds, and as many that vector search finds."""
    weights: dict[str, float] | None = None
    """Tag, or `similarity` → weight in the quality value; fitted where not set: seeds against the other documents and
    against damaged ones."""
    penalty: float = Field(default=0.01, gt=0)
    """Inverse of the penalty when weights are fitted."""

    @model_validator(mode="after")
    def _tags_exist(self) -> GradingConfig:
        for field, known in (("minimum", NAMES), ("weights", (*NAMES, "similarity"))):
            for name in getattr(self, field) or {}:
                if name not in known:
                    raise ValueError(f"{field}.{name}: no such tag; there are {', '.join(known)}")
        return self


class CurateConfig(StageConfig):
    """Reads, deduplicates, decontaminates and splits documents into HQ and MQ."""

    kind: Literal["curate"]
    sources: list[str] = Field(min_length=1)
    """Sources of text to read."""
    quality: dict[str, Literal["hq", "mq"]] = Field(default_factory=dict)
    """The quality of each source's documents, where they are not graded. Damaged puzzle pages are always `mq`."""
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
    """Words that a document must share with a held-out problem in prose to be dropped (13: GPT-3, appendix C)."""

    produces: ClassVar[str] = "documents"
    roles: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _every_source_once(self) -> CurateConfig:
        for name in self.sources:
            if self.sources.count(name) > 1:
                raise ValueError(f"sources: {name!r} stands there twice")
            if self.grading is None and name not in self.quality:
                raise ValueError(f"quality.{name}: missing; say hq or mq")
        for name in self.quality:
            if name not in self.sources:
                raise ValueError(f"quality.{name}: is none of the stage's sources")
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
                    raise ValueError(f"grading.{field}: {name} is none of the stage's sources")
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

    def source_names(self) -> list[str]:
        return [*self.sources, *self.heldout]
