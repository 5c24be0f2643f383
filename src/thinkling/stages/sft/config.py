"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.base import Need, StageConfig
from thinkling.train.config import OptimizerConfig


class ExamplesConfig(BaseModel):
    """Training conversations of one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers conversations: given ones, or problems with their solutions."""
    n_examples: int | None = Field(default=None, ge=1)
    """Conversations, drawn evenly over the families; all that the source has if not set."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them if not set."""


class SftConfig(StageConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: ExamplesConfig | list[ExamplesConfig] = Field(default_factory=list)
    """What the recipe's sources offer to learn from: one mapping, or a list of them."""
    epochs: float = Field(gt=0)
    """Passes over examples and conversations."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps at most; rows beyond them are left over. All where not set."""
    row_length: int = Field(ge=16)
    """Tokens per packed row (docs/recipe.md, SFT: 32K in the cold start, 64K overall)."""
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
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "conversations?": "conversations"}
    distributed: ClassVar[bool] = True

    @property
    def example_sets(self) -> list[ExamplesConfig]:
        """`examples` as a list."""
        return self.examples if isinstance(self.examples, list) else [self.examples]

    @model_validator(mode="after")
    def _something_to_learn(self) -> SftConfig:
        if not self.example_sets and "conversations" not in self.inputs:
            raise ValueError("examples: missing; give some, or name a stage in inputs.conversations")
        return self

    def needs(self) -> list[Need]:
        return [Need("examples.source", examples.source, "conversations") for examples in self.example_sets]
