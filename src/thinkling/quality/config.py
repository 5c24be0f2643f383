"""Configuration of grading: part of the curate stage's, and what `grade_pool` takes when called alone."""

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
"""A number of tokens; `6.5T`, `2M`, `64K` are understood."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServedAnnotatorConfig(ServerConfig):
    """A served model that grades the examples for the labeller."""

    url: str = Field(pattern=r"^https?://")
    """Base address of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """The served model's name."""


class GradingConfig(_Part):
    """Grades every document on 20 tags, compares it with seeds, and splits by one quality value (docs/recipe.md,
    "Curation")."""

    seeds: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Source → number of its documents that serve as seeds: queries of retrieval, and the signal that the weights of
    the quality value are fitted to. A record that its source knows to be wrong is never a seed."""
    hq_tokens: Tokens
    """Budget of high-quality text: the best documents until it is full."""
    mq_tokens: Tokens | None = None
    """Budget of medium-quality text: the next best; what is left is rejected. Without it everything else is kept."""
    bytes_per_token: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] = 4.0
    """Bytes of UTF-8 per token, used to count budgets, since the tokenizer is trained later (large vocabularies: 4 to
    4.5); one for all sources or one per source."""
    minimum: dict[str, Annotated[int, Field(ge=0, le=HIGHEST)]] = Field(default_factory=dict)
    """Tag → grade below which a document is rejected whatever its value."""
    labeller: Path | None = None
    """Directory of a labeller that an earlier run saved (`labeller/` in the artifact of its curate stage). It grades as
    it is: nothing is annotated or fitted. Relative to the working directory."""
    annotator: Literal["rules"] | ServedAnnotatorConfig = "rules"
    """Who grades the examples that the labeller learns from."""
    annotated: Annotated[int, Field(ge=100)] | dict[str, Annotated[int, Field(ge=1)]] = 3000
    """Number of documents to annotate, spread equally over the sources, or source → number. Sound ones are added again
    in an artificially damaged form."""
    fitted_on: int = Field(default=8000, ge=100)
    """Maximum number of documents that the LSA is fitted on."""
    dimensions: int = Field(default=128, ge=2)
    """Length of the LSA vectors."""
    ridge: float = Field(default=0.3, gt=0)
    """Penalty on the squared weights of the labeller's regressions."""
    neighbours: int = Field(default=300, ge=1)
    """Documents per seed that full-text search finds; vector search finds as many."""
    weights: dict[str, float] | None = None
    """Tag, or `similarity` → weight in the quality value; fitted where not set: seeds against the other documents and
    against damaged ones."""
    penalty: float = Field(default=0.01, gt=0)
    """Inverse of the penalty when weights are fitted."""

    @model_validator(mode="after")
    def _labeller_is_fitted_or_loaded(self) -> GradingConfig:
        if self.labeller is not None:
            for field in ("annotator", "annotated", "fitted_on", "dimensions", "ridge"):
                if field in self.model_fields_set:
                    raise ValueError(f"{field}: a saved labeller needs none; remove it, or labeller")
        return self

    @model_validator(mode="after")
    def _tags_exist(self) -> GradingConfig:
        for field, known in (("minimum", NAMES), ("weights", (*NAMES, "similarity"))):
            for name in getattr(self, field) or {}:
                if name not in known:
                    raise ValueError(f"{field}.{name}: no such tag; there are {', '.join(known)}")
        return self
