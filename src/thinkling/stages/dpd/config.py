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
    """How pairs are made: sample the student, then sample the teacher on the problems where the student failed. The
    sampling defaults are those of evaluation, i.e. of normal use."""

    student_samples: int = Field(default=4, ge=1)
    """Samples per problem from the initial checkpoint."""
    teacher_samples: int = Field(default=2, ge=1)
    """Samples from the teacher for each problem that the student got wrong at least once."""
    pairs_per_problem: int = Field(default=1, ge=1)
    """Maximum pairs per problem; each uses a different incorrect student sample."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """Minimum lead of the teacher on a problem: its fraction of correct samples minus the student's. Keeps only pairs
    in which y⁺ is clearly better (docs/recipe.md, DPD; the threshold is unknown)."""


class PreferencesConfig(BaseModel):
    """Existing preference pairs from one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers pairs."""
    n_pairs: int | None = Field(default=None, ge=1)
    """Number of pairs; if not set, all pairs of the source."""


class WeightsConfig(BaseModel):
    """Weights of the loss terms, 1 each since none are published (docs/recipe.md, DPD). Terms with weight 0 are
    skipped."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dpo: float = Field(default=1.0, ge=0)
    """The pair's margin relative to the initial checkpoint (arXiv 2305.18290 eq. 7)."""
    kl_chosen: float = Field(default=1.0, ge=0)
    """KL to the teacher along chosen completions."""
    kl_rejected: float = Field(default=1.0, ge=0)
    """KL to the teacher along rejected completions, which are the student's own."""
    kl_solved: float = Field(default=1.0, ge=0)
    """KL to the teacher along the student's correct answers; used if `solved_per_step` is above 0."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> WeightsConfig:
        if not (self.dpo or self.kl_chosen or self.kl_rejected):
            raise ValueError("all three weights are 0; raise one of them")
        return self


class DpdConfig(ScheduleConfig, MicroBatchConfig, ChatStageConfig):
    """Dual preference distillation (docs/recipe.md, DPD): DPO and two token-level distillation terms in one loss."""

    kind: Literal["dpd"]
    problems: list[ProblemsConfig] = Field(default_factory=list)
    """Problems to sample student and teacher on; some of them become pairs. The teacher must be able to solve them."""
    pairs: PairsConfig | None = None
    """How pairs are made from `problems`; required if `problems` is set."""
    preferences: list[PreferencesConfig] = Field(default_factory=list)
    """Existing pairs, trained on together with those made from `problems`."""
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    """Weights of the loss terms."""
    beta: float = Field(default=0.1, gt=0)
    """β of the DPO term; our choice, since no value is published (docs/recipe.md, DPD)."""
    kl: Literal["sum", "mean"] = "sum"
    """Reduction of the KL over a completion: the sum over its tokens, as in the formula (docs/recipe.md, DPD), or their
    mean."""
    direction: Literal["forward", "reverse"] = "forward"
    """`forward`: KL(teacher ‖ student), an assumption (docs/recipe.md, DPD); `reverse`: KL(student ‖ teacher)."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch_size: int = Field(ge=1)
    """Pairs per optimizer step, over all ranks; the loss is their mean."""
    solved_per_step: int = Field(default=0, ge=0)
    """Problems per step (over all ranks, in addition to the pairs) that the student always gets right. The student is
    held to the teacher along one of its own answers, to prevent forgetting of what no pair covers (docs/LAB.md). Not in
    the paper."""
    sequence_length: int = Field(ge=16)
    """Tokens per packed row. Samples that do not fit together with their prompt are not paired."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints. A killed run resumes from the latest one."""

    output_version: ClassVar[int] = 3
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "teacher?": "model", "state?": "state"}
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _schedule_fits(self) -> DpdConfig:
        if self.warmup_steps + round(self.steps * self.decay_fraction) > self.steps:
            raise ValueError("warmup_steps and decay_fraction together exceed steps; lower one of them")
        return self

    @model_validator(mode="after")
    def _pairs_from_somewhere(self) -> DpdConfig:
        sources = [p.source for p in self.preferences]
        if len(set(sources)) < len(sources):
            raise ValueError("preferences: a source is listed twice")
        if not self.problems and not self.preferences:
            raise ValueError("problems: missing; set problems to make pairs from, or preferences to use existing pairs")
        if self.problems and self.pairs is None:
            raise ValueError("pairs: missing; it sets how pairs are made from problems, such as {max_new_tokens: 4096}")
        if not self.problems:
            for name, given in {"pairs": self.pairs is not None, "solved_per_step": self.solved_per_step > 0}.items():
                if given:
                    raise ValueError(f"{name}: has no effect without problems; remove it")
        return self

    @model_validator(mode="after")
    def _teacher_where_needed(self) -> DpdConfig:
        if "teacher" in self.inputs:
            if not self.problems and not self.imitates:
                raise ValueError(
                    "inputs.teacher: not used, since there are no problems and all KL weights are 0; remove it"
                )
        elif self.problems:
            raise ValueError(
                "inputs.teacher is missing: the chosen side of a pair is a correct answer of the teacher to one of the "
                "problems; name a stage or a source of type model, or remove problems and train on preferences alone"
            )
        elif self.imitates:
            raise ValueError(
                "inputs.teacher is missing: weights.kl_chosen and weights.kl_rejected pull the student towards a "
                "teacher; name one, or set both to 0, which is plain DPO: weights: {kl_chosen: 0, kl_rejected: 0}"
            )
        return self

    @property
    def holds(self) -> bool:
        """Whether solved problems contribute to the loss."""
        return bool(self.solved_per_step and self.weights.kl_solved)

    @property
    def imitates(self) -> bool:
        """Whether the teacher contributes to the loss."""
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
