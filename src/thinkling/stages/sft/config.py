"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from thinkling.stages.training.config import MicroBatchConfig, ScheduleConfig


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


class SftConfig(ScheduleConfig, MicroBatchConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: ExamplesConfig | list[ExamplesConfig] = Field(default_factory=list)
    """Problems of the recipe's sources: one mapping, or a list of them."""
    epochs: float = Field(gt=0)
    """Passes over examples and conversations."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps at most; rows beyond them are left over. All where not set."""
    sequence_length: int = Field(ge=16)
    """Tokens per packed row (docs/recipe.md, SFT: 32K in the cold start, 64K overall)."""
    batch_size: int = Field(ge=1)
    """Rows per optimizer step, over all ranks."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints, from which a killed run continues."""

    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "conversations?": "conversations", "state?": "state"}
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
