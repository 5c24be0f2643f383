"""Configuration of the pretrain stage, with the phases of FG-WSD as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.quantities import Tokens
from thinkling.stages.training.config import DryRunConfig, MicroBatchConfig, NextTokenConfig, TrainingConfig
from thinkling.stages.training.memory import Batch
from thinkling.train.schedule import DecayShape

Packing = Literal["sequential", "best_fit"]


class PhaseConfig(BaseModel):
    """A span of training with a fixed mixture, sequence length and RoPE base, and one segment of the learning rate
    schedule."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the phase in plans and logs."""
    tokens: Tokens
    """Length of the phase in tokens, rounded to whole optimizer steps."""
    learning_rate: tuple[float, float] | float
    """Constant learning rate, or [first, last] to interpolate between two learning rates (see `shape`)."""
    shape: DecayShape = "linear"
    """Shape of the curve from the first to the last learning rate. The shape of the decay in the original recipe is
    unknown (docs/recipe.md, Pre-training)."""
    mixture: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Source → relative weight. The weights determine each source's share of the rows, and therefore of the tokens."""
    sequence_length: int | None = Field(default=None, ge=8)
    """Number of tokens per row. If not set, the value of the previous phase is used."""
    batch_tokens: Tokens | None = None
    """Number of tokens per optimizer step, over all ranks, from this phase on. If not set, the value of the previous
    phase is used. With phases of increasing `batch_tokens`, the batch grows during training (batch ramp)."""
    rope_theta: float | None = Field(default=None, gt=0)
    """RoPE base from this phase on (ABF: the base is raised for long rows). If not set, the value of the previous phase
    is used."""
    decay: bool = False
    """Whether the decay of the learning rate starts with this phase. The start of the decay is the only point at which
    mixture and learning rate may change together."""

    @property
    def lr_first(self) -> float:
        return self.learning_rate[0] if isinstance(self.learning_rate, tuple) else self.learning_rate

    @property
    def lr_last(self) -> float:
        return self.learning_rate[1] if isinstance(self.learning_rate, tuple) else self.learning_rate


class AverageConfig(BaseModel):
    """The weights that are averaged."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    every: int = Field(ge=1)
    """Number of steps between two weights in the average. The weights after the last step are always included, and no
    weights from before the first phase with `decay: true`."""


class PretrainConfig(TrainingConfig, NextTokenConfig, DryRunConfig, MicroBatchConfig):
    """Next-token training on packed rows, in phases (docs/recipe.md, Pre-training)."""

    kind: Literal["pretrain"]
    sequence_length: int = Field(ge=8)
    """Number of tokens per row in the first phase (docs/recipe.md, Pre-training). The value in the full recipe, 4,096,
    is our choice."""
    batch_tokens: Tokens
    """Number of tokens per optimizer step, over all ranks, in the first phase. Later phases use the same number unless
    they set another one. In every phase, the number must be a multiple of `sequence_length`."""
    packing: Packing = "sequential"
    """How documents are packed into rows. Neither way cuts a document that fits in a row. `sequential`: in the order
    of the epoch; if a document does not fit in the rest of a row, the rest is padded, and a document longer than a row
    starts in the rest of a row. `best_fit`: by best-fit decreasing among up to 16,384 documents, which pads less; a
    document longer than a row is cut into whole rows and a rest, which is packed like a document."""
    phases: list[PhaseConfig] = Field(min_length=1)
    """Phases of training, in order. Each phase sets a number of tokens, a learning rate and a mixture."""
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Source → maximum number of passes over the source's documents. If the phases need more passes, the stage raises
    an error before training."""
    default_max_epochs: float = Field(default=4.0, gt=0)
    """Maximum number of passes over sources that are not listed in `max_epochs`. The default is 4, because repeated
    data is worth little beyond four passes (arXiv 2305.16264)."""
    average: AverageConfig | None = None
    """Whether `model/` is the average, in fp32, of the weights during the decay (from the first phase with `decay:
    true` to the end of the stage) instead of the weights after the last step. The average takes 4 bytes per
    parameter."""
    validation_rows: int = Field(default=64, ge=0)
    """Number of rows per source on which the validation loss is measured after every phase. The rows are taken from
    tokenize's validation split."""

    output_version: ClassVar[int] = 5
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"tokens": "tokens", "model?": "model", "state?": "state"}
    uses: ClassVar[frozenset[str]] = frozenset({"model"})
    distributed: ClassVar[bool] = True
    not_hashed: ClassVar[frozenset[str]] = TrainingConfig.not_hashed | {"dry_run_step"}

    def largest_batches(self, ranks: int, sure: bool = False) -> list[Batch]:
        found: list[Batch] = []
        length, batch_tokens = self.sequence_length, self.batch_tokens
        for phase in self.phases:
            length, batch_tokens = phase.sequence_length or length, phase.batch_tokens or batch_tokens
            found.append(Batch.of(max(1, batch_tokens // length // ranks), self.micro_batch_size, length))
        return list(dict.fromkeys(found))

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError("phases: two phases have the same name; rename one of them")
        length, batch_tokens = self.sequence_length, self.batch_tokens
        for phase in self.phases:
            length, batch_tokens = phase.sequence_length or length, phase.batch_tokens or batch_tokens
            if batch_tokens % length:
                raise ValueError(
                    f"phases.{phase.name}: batch_tokens {batch_tokens} is not a multiple of sequence_length "
                    f"{length}; change one of them"
                )
        if self.average is not None and not any(phase.decay for phase in self.phases):
            raise ValueError(
                "average: no phase has `decay: true`, so there are no weights to average; set `decay: true` in the "
                "phase in which the decay starts, or remove average"
            )
        return self
