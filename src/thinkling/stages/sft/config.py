"""Configuration of the sft stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.training.config import DryRunConfig, MicroBatchConfig, NextTokenConfig, PostTrainingConfig
from thinkling.stages.training.memory import Batch


class ExamplesConfig(BaseModel):
    """Training conversations from one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Name of a source that provides conversations: existing ones, or problems with their solutions."""
    n_examples: int | None = Field(default=None, ge=1)
    """Number of conversations, drawn evenly across families. If not set, all conversations of the source are used."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Problem families to use. If not set, all families of the source are used."""
    weight: float | None = Field(default=None, gt=0)
    """Share of the training tokens, relative to the other weights. Set a weight either for all examples and for the
    input `conversations` (`conversations_weight`), or for none of them. Without weights, all conversations are trained
    on equally often."""
    one_sample_per_round: bool = False
    """Whether to split a multi-round conversation into one sample per round, in which only the turns of that round
    carry loss. Use it with chat templates that drop the reasoning of earlier rounds; otherwise, only the reasoning of
    the last round is learned."""


class SftConfig(PostTrainingConfig, NextTokenConfig, DryRunConfig, MicroBatchConfig, ChatStageConfig):
    """Supervised fine-tuning with loss on assistant turns."""

    kind: Literal["sft"]
    examples: list[ExamplesConfig] = Field(default_factory=list)
    """Conversations from the recipe's sources: a list of entries, each of which selects conversations from one source,
    or a single entry."""
    conversations_weight: float | None = Field(default=None, gt=0)
    """Weight of the input `conversations`. Required if the examples have weights."""
    epochs: float = Field(gt=0)
    """Number of passes over the examples and the input `conversations`. If the examples have weights, the number of
    passes differs from source to source, and `epochs` only sets the length of training: `epochs` times the number of
    rows in one pass over all sources."""
    max_repeats: float = Field(default=4, ge=1)
    """Maximum number of passes over a source if weights are set. If `epochs` is larger than this value, `epochs` is the
    maximum. If a weight would repeat a source more often, the stage raises an error. The default is 4, because repeated
    data is worth nearly as much as new data for up to about four passes."""
    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What to do with a conversation that is longer than `sequence_length` tokens. `drop` excludes the conversation,
    and `error` stops the stage. `truncate` removes turns from the end, so that the last remaining turn is complete and
    carries loss; if not even the first turn with loss fits, the conversation is dropped."""
    unrenderable: Literal["error", "drop"] = "error"
    """What to do with a conversation that the chat template cannot render, or can render only by dropping content such
    as reasoning or tool calls. `error` stops the stage and reports the conversation; `drop` excludes the conversation,
    counts it and records the reason."""
    max_steps: int | None = Field(default=None, ge=1)
    """Maximum number of optimizer steps. Rows beyond these steps are not used. If not set, the number of rows
    determines the number of steps."""
    sequence_length: int = Field(ge=16)
    """Number of tokens per packed row (docs/recipe.md, SFT: 32K in the cold start, 64K in overall SFT)."""
    batch_size: int = Field(ge=1)
    """Number of rows per optimizer step, over all ranks."""
    validation_fraction: float = Field(default=0.0, ge=0, le=0.5)
    """Fraction of the conversations that is held out of training as a validation split, selected by hash. The loss on
    this split is measured every `evaluate_every` steps. Conversations about the same problem are either all in the
    validation split or all in the training data."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Number of steps between checkpoints. A killed run resumes from the latest checkpoint."""

    output_version: ClassVar[int] = 4
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "conversations?": "conversations", "state?": "state"}
    distributed: ClassVar[bool] = True
    not_hashed: ClassVar[frozenset[str]] = PostTrainingConfig.not_hashed | {"dry_run_step"}

    def largest_batches(self, ranks: int, sure: bool = False) -> list[Batch]:
        return [Batch.of(max(1, self.batch_size // ranks), self.micro_batch_size, self.sequence_length)]

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
            raise ValueError(
                "examples: missing; set examples, or set inputs.conversations to a stage that writes conversations"
            )
        return self

    @model_validator(mode="after")
    def _all_weights_or_none(self) -> SftConfig:
        given = "conversations" in self.inputs
        if self.conversations_weight is not None and not given:
            raise ValueError("conversations_weight: has no effect without inputs.conversations; remove it")
        weights = {f"examples.{i}.weight": examples.weight for i, examples in enumerate(self.examples)}
        if given:
            weights["conversations_weight"] = self.conversations_weight
        missing = [field for field, weight in weights.items() if weight is None]
        if missing and len(missing) < len(weights):
            raise ValueError(
                f"{missing[0]}: missing; set a weight for every entry of examples and, with inputs.conversations, "
                "conversations_weight, or set no weights"
            )
        if missing and self.max_repeats != SftConfig.model_fields["max_repeats"].default:
            raise ValueError("max_repeats: has no effect without weights; remove it")
        return self

    @property
    def weighted(self) -> bool:
        """Whether sources are mixed by weight rather than pooled."""
        return self.conversations_weight is not None or any(e.weight is not None for e in self.examples)

    def needs(self) -> list[Need]:
        given = [
            Need("examples.source", e.source, "conversations", n=e.n_examples, families=e.families)
            for e in self.examples
        ]
        return [*given, *super().needs()]
