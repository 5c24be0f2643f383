"""Configuration of the pretrain stage: the phases of FG-WSD as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.quantities import Tokens
from thinkling.stages.training.config import MicroBatchConfig, TrainingConfig
from thinkling.train.schedule import DecayShape


class PhaseConfig(BaseModel):
    """A stretch of training with one mixture, sequence length and RoPE base, and one line of learning rate."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the phase, in plans and logs."""
    tokens: Tokens
    """Length of the phase, rounded to whole steps."""
    learning_rate: tuple[float, float] | float
    """Peak value, or [first, last]: a line (`shape`) between the two."""
    shape: DecayShape = "linear"
    """Curve between the two (docs/recipe.md, Pre-training: the decay's shape is unknown)."""
    mixture: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Source → weight; weights are relative, and divide the rows and so the tokens."""
    sequence_length: int | None = Field(default=None, ge=8)
    """Tokens per row; the previous phase's where not set."""
    rope_theta: float | None = Field(default=None, gt=0)
    """RoPE base from this phase on (ABF: raised for long rows); the previous phase's where not set."""
    decay: bool = False
    """Marks the phase whose start may change mixture and learning rate together."""

    @property
    def lr_first(self) -> float:
        return self.learning_rate[0] if isinstance(self.learning_rate, tuple) else self.learning_rate

    @property
    def lr_last(self) -> float:
        return self.learning_rate[1] if isinstance(self.learning_rate, tuple) else self.learning_rate


class PretrainConfig(TrainingConfig, MicroBatchConfig):
    """Next-token training over packed rows by phases (docs/recipe.md, Pre-training)."""

    kind: Literal["pretrain"]
    sequence_length: int = Field(ge=8)
    """Tokens per row in the first phase (4,096 in the full recipe is our choice; docs/recipe.md, Pre-training)."""
    batch_tokens: Tokens
    """Tokens per step over all ranks: a multiple of every phase's sequence_length."""
    phases: list[PhaseConfig] = Field(min_length=1)
    """Phases in their order: tokens, learning rate, mixture."""
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Source → how often its documents may be seen; a plan that needs more is refused."""
    default_max_epochs: float = Field(default=4.0, gt=0)
    """The limit of sources not named above (4: beyond it repeated data is worth little, arXiv 2305.16264)."""
    validation_rows: int = Field(default=64, ge=0)
    """Rows per source, of tokenize's validation documents, whose loss is measured after every phase."""

    output_version: ClassVar[int] = 5
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"tokens": "tokens", "model?": "model", "state?": "state"}
    uses: ClassVar[frozenset[str]] = frozenset({"model"})
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError("phases: two phases have the same name")
        length = self.sequence_length
        for phase in self.phases:
            length = phase.sequence_length or length
            if self.batch_tokens % length:
                raise ValueError(
                    f"phases.{phase.name}: batch_tokens {self.batch_tokens} is not a multiple of sequence_length "
                    f"{length}"
                )
        return self
