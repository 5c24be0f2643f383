"""Configuration of the dpd stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.base import Need
from thinkling.stages.problems import ProblemsConfig
from thinkling.stages.sampling import SamplingConfig
from thinkling.stages.training.config import MicroBatchConfig, ScheduleConfig


class PairsConfig(SamplingConfig):
    """How pairs come about: the student's wrong samples, then the teacher's right ones for the same problems. Both are
    sampled as they are when used, so the defaults are those of evaluation."""

    student_samples: int = Field(default=4, ge=1)
    """Samples a problem from the entering checkpoint."""
    teacher_samples: int = Field(default=2, ge=1)
    """Samples from the teacher, for each problem that the student got wrong at least once."""
    pairs_per_problem: int = Field(default=1, ge=1)
    """At most so many pairs a problem, each with another wrong sample."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """Least lead of the teacher on a problem: its share of right samples minus the student's. A pair stays only where
    y⁺ is clearly better (docs/recipe.md, DPD; how much better is not known)."""


class WeightsConfig(BaseModel):
    """Weights of the three terms, 1 each since none are known (docs/recipe.md, DPD). A term of weight 0 is skipped."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dpo: float = Field(default=1.0, ge=0)
    """The pair's margin against the entering checkpoint (arXiv 2305.18290 eq. 7)."""
    kl_chosen: float = Field(default=1.0, ge=0)
    """KL to the teacher along chosen completions."""
    kl_rejected: float = Field(default=1.0, ge=0)
    """KL to the teacher along rejected completions, the student's own."""
    kl_solved: float = Field(default=1.0, ge=0)
    """KL to the teacher along right answers of the student, where `solved_per_step` asks for some."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> WeightsConfig:
        if not (self.dpo or self.kl_chosen or self.kl_rejected):
            raise ValueError("all three weights are 0; raise one of them")
        return self


class DpdConfig(ScheduleConfig, MicroBatchConfig):
    """Dual preference distillation (docs/recipe.md, DPD): DPO and two token-level distillations in one loss."""

    kind: Literal["dpd"]
    problems: list[ProblemsConfig] = Field(min_length=1)
    """Problems that student and teacher are asked; some of them become pairs. The teacher must know them all."""
    pairs: PairsConfig
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    beta: float = Field(default=0.1, gt=0)
    """β of the DPO term: our choice, since it is not known (docs/recipe.md, DPD)."""
    kl: Literal["sum", "mean"] = "sum"
    """KL of a completion: the sum over its tokens, as in the formula (docs/recipe.md, DPD), or their mean."""
    direction: Literal["forward", "reverse"] = "forward"
    """`forward`: KL(teacher ‖ student), an assumption (docs/recipe.md, DPD); `reverse`: KL(student ‖ teacher)."""
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Pairs per optimizer step, over all ranks; the loss is their mean."""
    solved_per_step: int = Field(default=0, ge=0)
    """Problems per step, besides the pairs and over all ranks, that the student always gets right: along an answer of
    its own it is held to the teacher. What no pair covers is forgotten otherwise (docs/LAB.md); not in the paper."""
    sequence_length: int = Field(ge=16)
    """Tokens per packed row. A sample that is longer with its prompt makes no pair."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints, from which a killed run continues."""

    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "teacher": "model", "state?": "state"}
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _schedule_fits(self) -> DpdConfig:
        if self.warmup_steps + round(self.steps * self.decay_fraction) > self.steps:
            raise ValueError("warmup_steps and decay_fraction take more than all steps; lower one of them")
        return self

    @property
    def holds(self) -> bool:
        """Whether solved problems take part in the loss."""
        return bool(self.solved_per_step and self.weights.kl_solved)

    @property
    def imitates(self) -> bool:
        """Whether the teacher takes part in the loss."""
        return bool(self.weights.kl_chosen or self.weights.kl_rejected) or self.holds

    def needs(self) -> list[Need]:
        return [p.need() for p in self.problems]

    def judges(self) -> list[str]:
        return [p.source for p in self.problems]
