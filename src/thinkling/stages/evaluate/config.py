"""Configuration of the evaluate stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.generate.config import ChatConfig
from thinkling.names import Name
from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.sampling import ToolSamplingConfig


class TaskSetConfig(BaseModel):
    """What a model is scored on, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems; its held-out ones are used."""
    renderer: str = "chat"
    """How the model is asked. `chat`: a user turn is answered. Others are plug-ins (entry points
    `thinkling.renderers`), such as one that continues a page for a base model, which has seen no chat."""


class EvaluateConfig(ChatStageConfig, ToolSamplingConfig):
    """avg@k: the mean over k samples a problem, with a bootstrap interval over problems. Where a rule grades answers,
    the mean grade, and with a baseline the fraction of comparisons won by the rule."""

    kind: Literal["evaluate"]
    task_sets: dict[Name, TaskSetConfig] = Field(min_length=1)
    """Name → held-out problems of a source, and how they are asked."""
    k: int = Field(default=8, ge=1)
    """Samples per problem (docs/recipe.md, Evaluation: 8 on AIME, 3 elsewhere)."""

    output_version: ClassVar[int] = 6
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "scores"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "baseline?": "scores"}
    """`baseline`: an earlier evaluation of the same task sets. Those that a rule grades are compared sample by sample,
    the others by the accuracy on each problem."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return super().chats() if any(t.renderer == "chat" for t in self.task_sets.values()) else {}

    @model_validator(mode="after")
    def _chat_is_used(self) -> EvaluateConfig:
        if self.chat != ChatConfig() and any(t.renderer != "chat" for t in self.task_sets.values()):
            raise ValueError("chat: a task set has a renderer of its own, which writes no chats; remove one of the two")
        return self

    def needs(self) -> list[Need]:
        return [Need(f"task_sets.{name}.source", t.source, "problems", "heldout") for name, t in self.task_sets.items()]

    def judges(self) -> list[str]:
        return [t.source for t in self.task_sets.values()]

    def calls(self) -> list[str]:
        return self.judges() if self.max_tool_calls else []
