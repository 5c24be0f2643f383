"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.training.config import MicroBatchConfig, ScheduleConfig


class ExamplesConfig(BaseModel):
    """Training conversations of one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers conversations: given ones, or problems with their solutions."""
    n_examples: int | None = Field(default=None, ge=1)
    """Conversations, drawn evenly over the families; all that the source has if not set."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them if not set."""


class SftConfig(ScheduleConfig, MicroBatchConfig, ChatStageConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: list[ExamplesConfig] = Field(default_factory=list)
    """Conversations of the recipe's sources: a list of mappings, or one mapping."""
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

    @field_validator("examples", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _something_to_learn(self) -> SftConfig:
        if not self.examples and "conversations" not in self.inputs:
            raise ValueError("examples: missing; give some, or name a stage in inputs.conversations")
        return self

    def needs(self) -> list[Need]:
        return [Need("examples.source", examples.source, "conversations") for examples in self.examples]
