"""Configuration of the quality grading of documents, for the curate stage and for direct calls of `grade_pool`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from thinkling.generate.config import ServerConfig
from thinkling.quality.tags import HIGHEST, NAMES

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def _tokens(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMBT]?)\s*", value)):
        return round(float(match[1]) * _SCALE[match[2]])
    return value


Tokens = Annotated[int, BeforeValidator(_tokens), Field(gt=0)]
"""Number of tokens, as an integer or as a string such as `6.5T`, `2M` or `64K`."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServedAnnotatorConfig(ServerConfig):
    """A model behind an API that grades the labeller's training examples."""

    url: str = Field(pattern=r"^https?://")
    """Base URL of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """Name of the served model."""


class GradingConfig(_Part):
    """Grades every document on 20 tags, compares each document with seed documents, and splits the documents by a
    single quality value (docs/recipe.md, "Curation")."""

    seeds: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Source → number of its documents to use as seeds. Seeds are the queries of retrieval and the positive class when
    the weights of the quality value are fitted. A record that its source marks as incorrect is never a seed."""
    hq_tokens: Tokens
    """Token budget for high quality, filled with the best documents."""
    mq_tokens: Tokens | None = None
    """Token budget for medium quality, filled with the next best documents; the remaining documents are rejected. If
    not set, all remaining documents are kept as medium quality."""
    bytes_per_token: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] = 4.0
    """UTF-8 bytes per token: one number for all sources, or source → number. Used to estimate token counts for the
    budgets because the tokenizer is trained later. Typical values for large vocabularies are 4 to 4.5."""
    minimum: dict[str, Annotated[int, Field(ge=0, le=HIGHEST)]] = Field(default_factory=dict)
    """Tag → minimum grade. Documents with a lower grade are rejected regardless of their quality value."""
    labeller: Path | None = None
    """Directory of a labeller saved by an earlier run (`labeller/` in the artifact of its curate stage). The labeller
    is used unchanged, with no annotation or fitting. A relative path is relative to the working directory."""
    annotator: Literal["rules"] | ServedAnnotatorConfig = "rules"
    """The annotator that grades the labeller's training examples: the built-in rules, or a served model."""
    annotated: Annotated[int, Field(ge=100)] | dict[str, Annotated[int, Field(ge=1)]] = 3000
    """Number of documents to annotate, spread equally across sources, or source → number. Artificially damaged copies
    of those that are sound are added."""
    fitted_on: int = Field(default=8000, ge=100)
    """Maximum number of documents on which the LSA is fitted."""
    dimensions: int = Field(default=128, ge=2)
    """Dimension of the LSA vectors."""
    ridge: float = Field(default=0.3, gt=0)
    """L2 penalty of the labeller's ridge regressions."""
    neighbours: int = Field(default=300, ge=1)
    """Number of documents retrieved per seed by each of the two searches, full-text and vector."""
    weights: dict[str, float] | None = None
    """Tag or `similarity` → weight in the quality value. If not set, the weights are fitted so that the quality value
    separates seeds from other documents and from artificially damaged documents."""
    penalty: float = Field(default=0.01, gt=0)
    """Strength of the L2 penalty on the weights when they are fitted."""

    @model_validator(mode="after")
    def _labeller_is_fitted_or_loaded(self) -> GradingConfig:
        if self.labeller is not None:
            for field in ("annotator", "annotated", "fitted_on", "dimensions", "ridge"):
                if field in self.model_fields_set:
                    raise ValueError(f"{field}: has no effect with a saved labeller; remove {field} or labeller")
        return self

    @model_validator(mode="after")
    def _tags_exist(self) -> GradingConfig:
        for field, known in (("minimum", NAMES), ("weights", (*NAMES, "similarity"))):
            for name in getattr(self, field) or {}:
                if name not in known:
                    raise ValueError(f"{field}.{name}: unknown tag; use one of {', '.join(known)}")
        return self
