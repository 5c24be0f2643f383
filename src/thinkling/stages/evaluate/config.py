"""Configuration of the evaluate stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import Need, StageConfig


class TaskSetConfig(BaseModel):
    """What a model is scored on, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems; its held-out ones are used."""
    form: Literal["chat", "document"] = "chat"
    """`chat`: a user turn is answered; `document`: a page is continued, the only form that a base model has seen."""


class EvaluateConfig(StageConfig):
    """avg@k: the mean over k samples a problem, with a bootstrap interval over problems. Where a rule grades answers,
    the mean grade, and with a baseline the share of comparisons won by the rule."""

    kind: Literal["evaluate"]
    task_sets: dict[str, TaskSetConfig] = Field(min_length=1)
    k: int = Field(default=8, ge=1)
    """Samples per problem (docs/recipe.md, Evaluation: 8 on AIME, 3 elsewhere)."""
    temperature: float = Field(default=0.6, ge=0)
    """Logits are divided by it; 0 takes the likeliest token (default: docs/recipe.md, Evaluation)."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Probability mass of the likeliest tokens that samples are drawn from (default: docs/recipe.md, Evaluation)."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Tokens that the model may write an answer; what a tool writes does not count."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences decoded at once."""

    code_version: ClassVar[int] = 2
    produces: ClassVar[str] = "scores"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "baseline?": "scores"}
    """`baseline`: an earlier evaluation; the graded task sets that both have are compared sample by sample."""

    def needs(self) -> list[Need]:
        return [Need(f"task_sets.{name}.source", t.source, "problems") for name, t in self.task_sets.items()]

    def judges(self) -> list[str]:
        return [t.source for t in self.task_sets.values()]
