"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from thinkling.stages.base import StageConfig
from thinkling.train.config import OptimizerConfig


class ExamplesConfig(BaseModel):
    """Problems as conversations: worked, and imperfect on purpose; or in the roles of refine."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source of type `tasks`."""
    problems_per_family: int = Field(ge=1)
    """Distinct training problems a family."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them where not set."""
    without_trace: float = Field(default=0.0, ge=0, le=1)
    """Share of examples that answer at once."""
    corrupted: float = Field(default=0.0, ge=0, le=1)
    """Share of the traces that are damaged."""
    corrupted_characters: float = Field(default=0.15, gt=0, le=1)
    """Share of a damaged trace's characters that are replaced."""
    roles: dict[Literal["checklist", "evaluate", "revise", "chain"], PositiveFloat] | None = Field(
        default=None, min_length=1
    )
    """Role of refine → weight. Each problem then teaches one role, drawn by weight, in place of how it is solved."""

    @model_validator(mode="after")
    def _roles_or_traces(self) -> ExamplesConfig:
        if self.roles and (self.without_trace or self.corrupted):
            raise ValueError("roles: such examples have no trace; leave without_trace and corrupted out")
        return self


class SftConfig(StageConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: ExamplesConfig | list[ExamplesConfig] = Field(default_factory=list)
    """Problems of the recipe's sources: one mapping, or a list of them."""
    epochs: float = Field(gt=0)
    """Passes over examples and conversations."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps at most; rows beyond them are left over. All where not set."""
    sequence_length: int = Field(ge=16)
    """Tokens a packed row (RECIPE.md §4: 32K in the cold start, 64K overall)."""
    batch_size: int = Field(ge=1)
    """Rows a step, over all ranks."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows a forward pass on a rank; all of them where not set."""
    optimizer: OptimizerConfig
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.5, ge=0, le=1)
    """Last share of the steps, over which the learning rate falls linearly to `final_lr_fraction` of its peak."""
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
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

    def source_names(self) -> list[str]:
        return list(dict.fromkeys(examples.source for examples in self.example_sets))
