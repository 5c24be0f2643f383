"""Configuration of the dpd stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.training.config import MicroBatchConfig, ScheduleConfig


class PairsConfig(BaseModel):
    """How pairs come about: the student's wrong samples, then the teacher's right ones for the same problems."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source of type `tasks`."""
    problems_per_family: int = Field(ge=1)
    """Distinct training problems a family; a part of them becomes pairs."""
    also: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Further sources of type `tasks` → problems a family. The teacher must know them too."""
    student_samples: int = Field(default=4, ge=1)
    """Samples a problem from the entering checkpoint."""
    teacher_samples: int = Field(default=2, ge=1)
    """Samples from the teacher, for each problem that the student got wrong at least once."""
    pairs_per_problem: int = Field(default=1, ge=1)
    """At most so many pairs a problem, each with another wrong sample."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """Least lead of the teacher on a problem: its share of right samples minus the student's. A pair stays only where
    the chosen side is clearly better (docs/recipe.md, DPD; how much is unknown)."""
    temperature: float = Field(default=0.6, ge=0)
    """Of evaluation (docs/recipe.md, Evaluation): rejected samples are what the student says when it is used."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Of evaluation, likewise."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Tokens that a model may write a sample; what a tool writes does not count."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences decoded at once."""

    @property
    def sources(self) -> dict[str, int]:
        """Every source → problems a family."""
        return {self.source: self.problems_per_family, **self.also}


class WeightsConfig(BaseModel):
    """Weights of the three terms, 1 each since the paper shows none (docs/recipe.md, DPD). A term of weight 0 is not
    computed."""

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
    pairs: PairsConfig
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    beta: float = Field(default=0.1, gt=0)
    """Of the DPO term (docs/recipe.md, DPD: unknown)."""
    kl: Literal["sum", "mean"] = "sum"
    """A completion's KL: summed over its tokens, as in the paper (docs/recipe.md, DPD), or their mean."""
    direction: Literal["forward", "reverse"] = "forward"
    """`forward`: KL(teacher ‖ student), assumed in docs/recipe.md, DPD; `reverse`: KL(student ‖ teacher)."""
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

    def source_names(self) -> list[str]:
        return list(self.pairs.sources)

    def without_answers_to(self, sources: Collection[str]) -> tuple[Self | None, list[str]]:
        """Further sources are dropped; None where it is the first."""
        kept = {name: n for name, n in self.pairs.also.items() if name not in sources}
        dropped = [f"pairs.also.{name}" for name in self.pairs.also if name not in kept]
        if self.pairs.source in sources:
            return None, []
        return self.model_copy(update={"pairs": self.pairs.model_copy(update={"also": kept})}), dropped
