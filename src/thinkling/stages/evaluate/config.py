"""Configuration of the evaluate stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import StageConfig


class TaskSetConfig(BaseModel):
    """What a model is scored on, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source of type `tasks`; its held-out problems are used, all families."""
    form: Literal["chat", "document"] = "chat"
    """`chat`: a user turn is answered; `document`: a page is continued, the only form that a base model has seen."""


class EvaluateConfig(StageConfig):
    """avg@k: the mean over k samples a problem, with a bootstrap interval over problems. Where a rule grades answers,
    the mean grade, and with a baseline the share of comparisons won by the rule."""

    kind: Literal["evaluate"]
    task_sets: dict[str, TaskSetConfig] = Field(min_length=1)
    k: int = Field(default=8, ge=1)
    """Samples a problem (RECIPE.md §7: 8 on AIME, 3 elsewhere)."""
    temperature: float = Field(default=0.6, ge=0)
    """RECIPE.md §7."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """RECIPE.md §7."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Tokens that the model may write an answer; what a tool writes does not count."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences decoded at once."""

    output_version: ClassVar[int] = 2
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "scores"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "baseline?": "scores"}
    """`baseline`: an earlier evaluation; the graded task sets that both have are compared sample by sample."""

    def source_names(self) -> list[str]:
        return sorted({t.source for t in self.task_sets.values()})

    def without_answers_to(self, sources: Collection[str]) -> tuple[Self | None, list[str]]:
        """Task sets of these sources are dropped."""
        kept = {name: task_set for name, task_set in self.task_sets.items() if task_set.source not in sources}
        dropped = [f"task_sets.{name}" for name in self.task_sets if name not in kept]
        return (self.model_copy(update={"task_sets": kept}) if kept else None), dropped
