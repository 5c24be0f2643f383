"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import StageConfig
from thinkling.train.config import OptimizerConfig


class ExamplesConfig(BaseModel):
    """Worked problems as conversations: imperfect on purpose, until refine makes better ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source of type `tasks`."""
    problems_per_family: int = Field(ge=1)
    """Distinct training problems a family."""
    without_trace: float = Field(default=0.0, ge=0, le=1)
    """Share of examples that answer at once."""
    corrupted: float = Field(default=0.0, ge=0, le=1)
    """Share of the traces that are damaged."""
    corrupted_characters: float = Field(default=0.15, gt=0, le=1)
    """Share of a damaged trace's characters that are replaced."""


class SftConfig(StageConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: ExamplesConfig
    epochs: float = Field(gt=0)
    """Passes over the examples."""
    row_length: int = Field(ge=16)
    """Tokens a packed row (RECIPE.md §4: 32K in the cold start, 64K overall)."""
    batch_rows: int = Field(ge=1)
    """Rows a step, over all ranks."""
    micro_rows: int | None = Field(default=None, ge=1)
    """Rows a forward pass on a rank; all of them where not set."""
    optimizer: OptimizerConfig
    warmup_steps: int = Field(default=0, ge=0)
    decay_share: float = Field(default=0.5, ge=0, le=1)
    """Last share of the steps, over which the learning rate falls linearly to `final_lr_share` of its peak."""
    final_lr_share: float = Field(default=0.1, ge=0, le=1)
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints of the training state."""

    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model"}
    distributed: ClassVar[bool] = True

    def source_names(self) -> list[str]:
        return [self.examples.source]
