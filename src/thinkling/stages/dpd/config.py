"""Configuration of the dpd stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.problems import ProblemsConfig
from thinkling.stages.sampling import ToolSamplingConfig
from thinkling.stages.training.config import MicroBatchConfig, ScheduleConfig


class PairsConfig(ToolSamplingConfig):
    """How pairs come about: the student's wrong samples, then the teacher's right ones for the same problems. Both are
    sampled as they are when used, so the defaults are those of evaluation."""

    student_samples: int = Field(default=4, ge=1)
    """Samples a problem from the entering checkpoint."""
    teacher_samples: int = Field(default=2, ge=1)
    """Samples from the teacher, for each problem that the student got wrong at least once."""
    pairs_per_problem: int = Field(default=1, ge=1)
    """At most so many pairs a problem, each with another wrong sample."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """Least lead of the teacher on a problem: its fraction of right samples minus the student's. A pair stays only
    where y⁺ is clearly better (docs/recipe.md, DPD; how much better is not known)."""


class PreferencesConfig(BaseModel):
    """Given preference pairs of one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers pairs."""
    n_pairs: int | None = Field(default=None, ge=1)
    """Pairs; all that the source has if not set."""


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


class DpdConfig(ScheduleConfig, MicroBatchConfig, ChatStageConfig):
    """Dual preference distillation (docs/recipe.md, DPD): DPO and two token-level distillations in one loss."""

    kind: Literal["dpd"]
    problems: list[ProblemsConfig] = Field(default_factory=list)
    """Problems that student and teacher are asked; some of them become pairs. The teacher must know them all."""
    pairs: PairsConfig | None = None
    """How pairs are made of `problems`; required with them."""
    preferences: list[PreferencesConfig] = Field(default_factory=list)
    """Given pairs, trained on together with those of `problems`."""
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    """Weights of the terms of the loss."""
    beta: float = Field(default=0.1, gt=0)
    """β of the DPO term: our choice, since it is not known (docs/recipe.md, DPD)."""
    kl: Literal["sum", "mean"] = "sum"
    """KL of a completion: the sum over its tokens, as in the formula (docs/recipe.md, DPD), or their mean."""
    direction: Literal["forward", "reverse"] = "forward"
    """`forward`: KL(teacher ‖ student), an assumption (docs/recipe.md, DPD); `reverse`: KL(student ‖ teacher)."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch_size: int = Field(ge=1)
    """Pairs per optimizer step, over all ranks; the loss is their mean."""
    solved_per_step: int = Field(default=0, ge=0)
    """Problems per step, besides the pairs and over all ranks, that the student always gets right: along an answer of
    its own it is held to the teacher. What no pair covers is forgotten otherwise (docs/LAB.md); not in the paper."""
    sequence_length: int = Field(ge=16)
    """Tokens per packed row. What is longer with its prompt makes no pair."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints, from which a killed run continues."""

    output_version: ClassVar[int] = 3
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "teacher?": "model", "state?": "state"}
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _schedule_fits(self) -> DpdConfig:
        if self.warmup_steps + round(self.steps * self.decay_fraction) > self.steps:
            raise ValueError("warmup_steps and decay_fraction take more than all steps; lower one of them")
        return self

    @model_validator(mode="after")
    def _pairs_from_somewhere(self) -> DpdConfig:
        sources = [p.source for p in self.preferences]
        if len(set(sources)) < len(sources):
            raise ValueError("preferences: a source is named twice")
        if not self.problems and not self.preferences:
            raise ValueError("problems: missing; give some to make pairs of, or given pairs in preferences")
        if self.problems and self.pairs is None:
            raise ValueError("pairs: missing; it says how pairs are made of problems, such as {max_new_tokens: 4096}")
        if not self.problems:
            for name, given in {"pairs": self.pairs is not None, "solved_per_step": self.solved_per_step > 0}.items():
                if given:
                    raise ValueError(f"{name}: it is about samples of problems, and there are none; remove it")
        return self

    @model_validator(mode="after")
    def _teacher_where_needed(self) -> DpdConfig:
        if "teacher" in self.inputs:
            if not self.problems and not self.imitates:
                raise ValueError(
                    "inputs.teacher: nothing is asked of it: there are no problems, and no KL term has a weight; "
                    "remove it"
                )
        elif self.problems:
            raise ValueError(
                "inputs.teacher is missing: the chosen side of a pair is the teacher's right answer to one of the "
                "problems; name a stage or a source of type model, or remove problems and train on preferences alone"
            )
        elif self.imitates:
            raise ValueError(
                "inputs.teacher is missing: weights.kl_chosen and weights.kl_rejected draw the student towards a "
                "teacher; name one, or set both to 0, which leaves plain DPO: weights: {kl_chosen: 0, kl_rejected: 0}"
            )
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
        asked = [p.need() for p in self.problems]
        given = [Need("preferences.source", p.source, "pairs", n=p.n_pairs) for p in self.preferences]
        return [*asked, *given, *super().needs()]

    def judges(self) -> list[str]:
        return [*(p.source for p in self.problems), *super().judges()]

    def calls(self) -> list[str]:
        sampled = self.pairs is not None and self.pairs.max_tool_calls
        return [*(p.source for p in self.problems if sampled), *super().calls()]
