"""Configuration of the dpd stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.problems import ProblemsConfig
from thinkling.stages.sampling import ToolSamplingConfig
from thinkling.stages.training.config import MicroBatchConfig, PostTrainingConfig
from thinkling.stages.training.memory import Batch


class PairsConfig(ToolSamplingConfig):
    """How preference pairs are made: the student is sampled on all problems, then the teacher is sampled on the
    problems that the student answered incorrectly at least once. The sampling settings have the same defaults as in the
    evaluate stage, because these defaults correspond to normal use of a model."""

    student_samples: int = Field(default=4, ge=1)
    """Number of samples per problem from the student, which at this point is the initial checkpoint."""
    teacher_samples: int = Field(default=2, ge=1)
    """Number of samples from the teacher for each problem that the student answered incorrectly at least once."""
    pairs_per_problem: int = Field(default=1, ge=1)
    """Maximum number of pairs per problem. Each pair uses a different incorrect sample of the student."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """Minimum margin on a problem, i.e. the teacher's fraction of correct samples minus the student's. Problems with a
    smaller margin yield no pair, so a positive value excludes problems that the teacher does not solve clearly more
    often than the student. The threshold used by the original recipe is unknown (docs/recipe.md, DPD)."""


class PreferencesConfig(BaseModel):
    """Existing preference pairs from one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Name of a source that provides preference pairs."""
    n_pairs: int | None = Field(default=None, ge=1)
    """Number of pairs. If not set, all pairs of the source are used."""


class WeightsConfig(BaseModel):
    """Weights of the loss terms. All weights default to 1, because no values are published (docs/recipe.md, DPD). Terms
    with weight 0 are skipped."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dpo: float = Field(default=1.0, ge=0)
    """Weight of the DPO term (arXiv 2305.18290 eq. 7), which increases the likelihood of the chosen completion relative
    to the rejected completion, compared with the initial checkpoint."""
    kl_chosen: float = Field(default=1.0, ge=0)
    """Weight of the KL divergence between teacher and student along chosen completions."""
    kl_rejected: float = Field(default=1.0, ge=0)
    """Weight of the KL divergence between teacher and student along rejected completions. In pairs made from
    `problems`, the student wrote the rejected completions."""
    kl_solved: float = Field(default=1.0, ge=0)
    """Weight of the KL divergence between teacher and student along the student's correct answers. Has no effect if
    `solved_per_step` is 0."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> WeightsConfig:
        if not (self.dpo or self.kl_chosen or self.kl_rejected):
            raise ValueError("dpo, kl_chosen and kl_rejected are all 0; set at least one of them to a positive value")
        return self


class DpdConfig(PostTrainingConfig, MicroBatchConfig, ChatStageConfig):
    """Dual preference distillation (docs/recipe.md, DPD): DPO and two token-level distillation terms, combined in one
    loss."""

    kind: Literal["dpd"]
    problems: list[ProblemsConfig] = Field(default_factory=list)
    """Problems on which student and teacher are sampled to make pairs. A problem yields a pair only if the student
    fails it at least once and the teacher solves it."""
    pairs: PairsConfig | None = None
    """Settings for making pairs from `problems`. Required if `problems` is set."""
    preferences: list[PreferencesConfig] = Field(default_factory=list)
    """Existing preference pairs. They are used together with the pairs made from `problems`."""
    weights: WeightsConfig = Field(default_factory=WeightsConfig)
    """Weights of the loss terms."""
    beta: float = Field(default=0.1, gt=0)
    """β of the DPO term. The default is our choice, because no value is published (docs/recipe.md, DPD)."""
    kl: Literal["sum", "mean"] = "sum"
    """How the KL divergences of the tokens of a completion are combined: `sum`, as in the formula (docs/recipe.md,
    DPD), or `mean`."""
    direction: Literal["forward", "reverse"] = "forward"
    """Direction of the KL divergence. `forward` is KL(teacher ‖ student), which is an assumption (docs/recipe.md, DPD);
    `reverse` is KL(student ‖ teacher)."""
    steps: int = Field(ge=1)
    """Number of optimizer steps."""
    batch_size: int = Field(ge=1)
    """Number of pairs per optimizer step, over all ranks. The loss is the mean over these pairs."""
    solved_per_step: int = Field(default=0, ge=0)
    """Number of solved problems per step, over all ranks and in addition to the pairs. A problem is solved if all of
    the student's samples are correct. The term `weights.kl_solved` keeps the student close to the teacher along one of
    the student's own answers to each of these problems, so that the student does not forget skills that no pair covers
    (docs/LAB.md). This term is our addition to the published recipe."""
    sequence_length: int = Field(ge=16)
    """Number of tokens per packed row. A sample that does not fit into a row together with its prompt is not used in a
    pair."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Number of steps between checkpoints. A killed run resumes from the latest checkpoint."""

    output_version: ClassVar[int] = 3
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "teacher?": "model", "state?": "state"}
    distributed: ClassVar[bool] = True
    loss: ClassVar[Literal["next_token", "log_probs"]] = "log_probs"

    def largest_batches(self, ranks: int, sure: bool = False) -> list[Batch]:
        """Both sides of a pair may fill a row, but several short samples may share one row."""
        pairs = Batch.of(max(1, self.batch_size // ranks), self.micro_batch_size, self.sequence_length, rows_per_item=2)
        return [Batch(1, self.sequence_length, pairs.micro_batches)] if sure else [pairs]

    @model_validator(mode="after")
    def _schedule_fits(self) -> DpdConfig:
        if self.warmup_steps + round(self.steps * self.decay_fraction) > self.steps:
            raise ValueError(
                "warm-up and decay together take more than `steps` steps; lower warmup_steps or decay_fraction"
            )
        return self

    @model_validator(mode="after")
    def _pairs_from_somewhere(self) -> DpdConfig:
        sources = [p.source for p in self.preferences]
        if len(set(sources)) < len(sources):
            raise ValueError("preferences: a source is listed twice; remove one of the entries")
        if not self.problems and not self.preferences:
            raise ValueError(
                "problems: missing; set problems to make pairs from them, or preferences to use existing pairs"
            )
        if self.problems and self.pairs is None:
            raise ValueError(
                "pairs: missing, but required with problems; set it, for example to {max_new_tokens: 4096}"
            )
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
                    "inputs.teacher: has no effect, because there are no problems and all KL weights are 0; remove it"
                )
        elif self.problems:
            raise ValueError(
                "inputs.teacher is missing: with problems, the chosen side of each pair is a correct answer of the "
                "teacher; set inputs.teacher to a stage or a source of type model, or remove problems and train only "
                "on preferences"
            )
        elif self.imitates:
            raise ValueError(
                "inputs.teacher is missing: weights.kl_chosen and weights.kl_rejected pull the student towards a "
                "teacher; set inputs.teacher, or use plain DPO with weights: {kl_chosen: 0, kl_rejected: 0}"
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
