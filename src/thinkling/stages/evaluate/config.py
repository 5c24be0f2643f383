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
    """A set of problems to score the model on, and how they are presented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems; its held-out split is used."""
    renderer: str = "chat"
    """How the problem is presented to the model. `chat`: as a user turn. Others are plug-ins (entry points
    `thinkling.renderers`), for example one in which a base model, which has seen no chat, continues a page of text."""


class EvaluateConfig(ChatStageConfig, ToolSamplingConfig):
    """avg@k: the mean over k samples per problem, with a bootstrap interval over problems. If answers are graded by a
    rule, the mean grade, and with a baseline the win rate against it according to the rule."""

    kind: Literal["evaluate"]
    task_sets: dict[Name, TaskSetConfig] = Field(min_length=1)
    """Name → held-out problems of a source and how they are presented."""
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
            raise ValueError("chat: has no effect on a task set whose renderer is not chat; remove one of the two")
        return self

    def needs(self) -> list[Need]:
        return [Need(f"task_sets.{name}.source", t.source, "problems", "heldout") for name, t in self.task_sets.items()]

    def judges(self) -> list[str]:
        return [t.source for t in self.task_sets.values()]

    def calls(self) -> list[str]:
        return self.judges() if self.max_tool_calls else []
