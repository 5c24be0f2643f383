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
    weight: float | None = Field(default=None, gt=0)
    """Share of the training tokens, relative to the other weights. Either all examples have one, and the input
    `conversations` too (`conversations_weight`), or none has: then every conversation is trained on equally often."""
    one_sample_per_round: bool = False
    """Make a conversation of several rounds into one per round, in which only that round's turns carry loss. For
    templates that drop the reasoning of earlier rounds: otherwise only the last round's reasoning is learned."""


class SftConfig(ScheduleConfig, MicroBatchConfig, ChatStageConfig):
    """Supervised fine-tuning with the loss on what the assistant says."""

    kind: Literal["sft"]
    examples: list[ExamplesConfig] = Field(default_factory=list)
    """Conversations of the recipe's sources: a list of mappings, or one mapping."""
    conversations_weight: float | None = Field(default=None, gt=0)
    """The weight of the input `conversations`, where examples have weights."""
    epochs: float = Field(gt=0)
    """Passes over examples and conversations. With weights: training is as long as so many passes over all rows."""
    max_repeats: float = Field(default=4, ge=1)
    """With weights: passes over a source at most, if that is more than `epochs`; a run that would repeat one more often
    is refused. Up to about four passes, repeated data are worth nearly as much as new ones."""
    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What becomes of a conversation that is longer than `sequence_length`. `truncate` removes turns from its end, so
    that the last turn kept is whole and trained on; where even the first such turn does not fit, it is dropped."""
    unrenderable: Literal["error", "drop"] = "error"
    """What becomes of a conversation that the chat template cannot write, or of which it would lose something, such as
    its reasoning or a tool call: the stage ends and names it, or it is left out, counted and written down with the
    reason."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps at most; rows beyond them are left over. All where not set."""
    sequence_length: int = Field(ge=16)
    """Tokens per packed row (docs/recipe.md, SFT: 32K in the cold start, 64K overall)."""
    batch_size: int = Field(ge=1)
    """Rows per optimizer step, over all ranks."""
    validation_fraction: float = Field(default=0.0, ge=0, le=0.5)
    """Fraction of the conversations that is left out of training, drawn by hash; with `evaluate_every` their loss is
    measured. What belongs to one problem stays together."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints, from which a killed run continues."""

    output_version: ClassVar[int] = 4
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "conversations?": "conversations", "state?": "state"}
    distributed: ClassVar[bool] = True

    @property
    def measures_loss(self) -> bool:
        return self.validation_fraction > 0

    @field_validator("examples", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _something_to_learn(self) -> SftConfig:
        if not self.examples and "conversations" not in self.inputs:
            raise ValueError("examples: missing; give some, or name a stage in inputs.conversations")
        return self

    @model_validator(mode="after")
    def _all_weights_or_none(self) -> SftConfig:
        given = "conversations" in self.inputs
        if self.conversations_weight is not None and not given:
            raise ValueError("conversations_weight: there is no input `conversations`; remove it")
        weights = {f"examples.{i}.weight": examples.weight for i, examples in enumerate(self.examples)}
        if given:
            weights["conversations_weight"] = self.conversations_weight
        missing = [field for field, weight in weights.items() if weight is None]
        if missing and len(missing) < len(weights):
            raise ValueError(f"{missing[0]}: missing; give all examples and the input conversations a weight, or none")
        if missing and self.max_repeats != SftConfig.model_fields["max_repeats"].default:
            raise ValueError("max_repeats: it limits sources with weights, and there are none; remove it")
        return self

    @property
    def weighted(self) -> bool:
        """Whether sources are mixed by weight, or pooled."""
        return self.conversations_weight is not None or any(e.weight is not None for e in self.examples)

    def needs(self) -> list[Need]:
        given = [
            Need("examples.source", e.source, "conversations", n=e.n_examples, families=e.families)
            for e in self.examples
        ]
        return [*given, *super().needs()]
