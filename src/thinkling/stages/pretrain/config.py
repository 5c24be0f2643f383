"""Configuration of the pretrain stage, with the phases of FG-WSD as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.quantities import Tokens
from thinkling.stages.training.config import MicroBatchConfig, TrainingConfig
from thinkling.train.schedule import DecayShape


class PhaseConfig(BaseModel):
    """A span of training with one mixture, sequence length and RoPE base, and one learning rate segment."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the phase in plans and logs."""
    tokens: Tokens
    """Length of the phase, rounded to whole optimizer steps."""
    learning_rate: tuple[float, float] | float
    """Constant value, or [first, last] to interpolate between (see `shape`)."""
    shape: DecayShape = "linear"
    """Curve from first to last (docs/recipe.md, Pre-training: the shape of the decay is unknown)."""
    mixture: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Source → weight. Weights are relative and determine each source's share of rows, and so of tokens."""
    sequence_length: int | None = Field(default=None, ge=8)
    """Tokens per row; if not set, that of the previous phase."""
    rope_theta: float | None = Field(default=None, gt=0)
    """RoPE base from this phase on (ABF: raised for long rows); if not set, that of the previous phase."""
    decay: bool = False
    """Marks the start of the decay, the only point at which mixture and learning rate may change together."""

    @property
    def lr_first(self) -> float:
        return self.learning_rate[0] if isinstance(self.learning_rate, tuple) else self.learning_rate

    @property
    def lr_last(self) -> float:
        return self.learning_rate[1] if isinstance(self.learning_rate, tuple) else self.learning_rate


class PretrainConfig(TrainingConfig, MicroBatchConfig):
    """Next-token training on packed rows, in phases (docs/recipe.md, Pre-training)."""

    kind: Literal["pretrain"]
    sequence_length: int = Field(ge=8)
    """Tokens per row in the first phase (docs/recipe.md, Pre-training; the full recipe's 4,096 is our choice)."""
    batch_tokens: Tokens
    """Tokens per optimizer step over all ranks; must be a multiple of every phase's sequence_length."""
    phases: list[PhaseConfig] = Field(min_length=1)
    """Phases in order: tokens, learning rate, mixture."""
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Source → maximum passes over its documents; a plan that needs more is rejected."""
    default_max_epochs: float = Field(default=4.0, gt=0)
    """Limit for sources not listed in `max_epochs` (4: beyond that, repeated data is worth little, arXiv
    2305.16264)."""
    validation_rows: int = Field(default=64, ge=0)
    """Rows per source, from tokenize's validation split, on which the loss is measured after every phase."""

    output_version: ClassVar[int] = 5
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"tokens": "tokens", "model?": "model", "state?": "state"}
    uses: ClassVar[frozenset[str]] = frozenset({"model"})
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError("phases: two phases have the same name; rename one")
        length = self.sequence_length
        for phase in self.phases:
            length = phase.sequence_length or length
            if self.batch_tokens % length:
                raise ValueError(
                    f"phases.{phase.name}: batch_tokens {self.batch_tokens} is not a multiple of sequence_length "
                    f"{length}"
                )
        return self
