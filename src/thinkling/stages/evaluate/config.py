"""Configuration of the evaluate stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import Need, StageConfig
from thinkling.stages.sampling import SamplingConfig


class TaskSetConfig(BaseModel):
    """What a model is scored on, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems; its held-out ones are used."""
    renderer: str = "chat"
    """How the model is asked. `chat`: a user turn is answered. Others are plug-ins (entry points
    `thinkling.renderers`), such as one that continues a page for a base model, which has seen no chat."""


class EvaluateConfig(StageConfig, SamplingConfig):
    """avg@k: the mean over k samples a problem, with a bootstrap interval over problems. Where a rule grades answers,
    the mean grade, and with a baseline the fraction of comparisons won by the rule."""

    kind: Literal["evaluate"]
    task_sets: dict[str, TaskSetConfig] = Field(min_length=1)
    k: int = Field(default=8, ge=1)
    """Samples per problem (docs/recipe.md, Evaluation: 8 on AIME, 3 elsewhere)."""

    output_version: ClassVar[int] = 3
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "scores"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "baseline?": "scores"}
    """`baseline`: an earlier evaluation; the graded task sets that both have are compared sample by sample."""

    def needs(self) -> list[Need]:
        return [Need(f"task_sets.{name}.source", t.source, "problems", "heldout") for name, t in self.task_sets.items()]

    def judges(self) -> list[str]:
        return [t.source for t in self.task_sets.values()]
