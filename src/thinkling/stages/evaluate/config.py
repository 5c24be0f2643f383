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
    """A set of problems on which the model is scored, and how the problems are presented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Name of a source that provides problems. Its held-out split is used."""
    renderer: str = "chat"
    """How each problem is presented to the model. `chat` presents the problem as a user turn. Other renderers are
    plug-ins (entry points in the group `thinkling.renderers`), for example for a base model, which has seen no chats
    and continues a page of text instead."""


class EvaluateConfig(ChatStageConfig, ToolSamplingConfig):
    """Measures avg@k, the mean score over k samples per problem, with a bootstrap interval over problems. If the
    verifier of a task set also grades answers from 0 to 1 by a rule, the score of this task set is the mean grade. If
    the input `baseline` is set, the stage also reports the difference from the baseline or, for grades, the win rate
    against the baseline."""

    kind: Literal["evaluate"]
    task_sets: dict[Name, TaskSetConfig] = Field(min_length=1)
    """Name of each task set → the held-out problems of a source, and how they are presented."""
    k: int = Field(default=8, ge=1)
    """Number of samples per problem (docs/recipe.md, Evaluation: 8 on AIME, 3 elsewhere)."""

    output_version: ClassVar[int] = 6
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "scores"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "baseline?": "scores"}
    """`baseline`: an earlier evaluation of the same task sets. Task sets that a rule grades are compared sample by
    sample; all other task sets are compared by accuracy, problem by problem."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return super().chats() if any(t.renderer == "chat" for t in self.task_sets.values()) else {}

    @model_validator(mode="after")
    def _chat_is_used(self) -> EvaluateConfig:
        if self.chat != ChatConfig() and any(t.renderer != "chat" for t in self.task_sets.values()):
            raise ValueError(
                "chat: has no effect on a task set whose renderer is not chat; remove chat, or use the renderer chat"
            )
        return self

    def needs(self) -> list[Need]:
        return [Need(f"task_sets.{name}.source", t.source, "problems", "heldout") for name, t in self.task_sets.items()]

    def judges(self) -> list[str]:
        return [t.source for t in self.task_sets.values()]

    def calls(self) -> list[str]:
        return self.judges() if self.max_tool_calls else []
