"""Configuration of the rl stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.generate.config import ServerConfig
from thinkling.plugins import Registry
from thinkling.stages.base import Need
from thinkling.stages.chat import ChatStageConfig
from thinkling.stages.problems import ProblemsConfig
from thinkling.stages.sampling import ToolSamplingConfig
from thinkling.stages.training.config import ScheduleConfig

PREFERENCE = "preference"
REWARDS = Registry(
    "reward",
    "thinkling.rewards",
    {
        "verdict": "thinkling.stages.rl.rewards:verdict",
        "well_formed": "thinkling.stages.rl.rewards:well_formed",
    },
)


class RewardedProblemsConfig(ProblemsConfig):
    """Problems of one source and how their completions are rewarded. The pass-rate band selects from them."""

    weight: float = Field(default=1.0, gt=0)
    """Relative weight of this source when prompts are allocated; the shares are exact over any run of steps."""
    rewards: dict[str, float] = Field(default_factory=lambda: {"verdict": 1.0}, min_length=1)
    """Reward → weight. A sample's reward is the weighted sum; if any reward has no value for a sample, the sample is
    removed from its group. `verdict`: right 1, wrong 0, no value for other verdicts. `well_formed`: 1 if the reply can
    be parsed. `preference`: probability, in 0–1, that the model in the role `preference_model` prefers the answer to
    one of the initial model's. Others are entry points in the group `thinkling.rewards`: functions of problem and
    rollout."""

    @property
    def compares(self) -> bool:
        """Whether samples are compared with a reference by the preference model."""
        return PREFERENCE in self.rewards

    @model_validator(mode="after")
    def _known_rewards(self) -> RewardedProblemsConfig:
        for name, weight in self.rewards.items():
            if name != PREFERENCE and name not in REWARDS:
                raise ValueError(
                    f"rewards: unknown reward {name!r}; known are {', '.join([*REWARDS.names(), PREFERENCE])}"
                )
            if weight == 0:
                raise ValueError(f"rewards.{name}: weight 0 has no effect; remove it")
        return self


class BandConfig(BaseModel):
    """Selects problems worth training on: those that the initial model gets right some of the time (docs/recipe.md,
    RL)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    samples: int = Field(default=16, ge=2)
    """Samples per problem (docs/recipe.md, RL: avg@16)."""
    low: float = Field(default=0.1, ge=0, lt=1)
    """Lower bound on the pass rate, exclusive, as a fraction."""
    high: float = Field(default=0.9, gt=0, le=1)
    """Upper bound on the pass rate, exclusive: with 16 samples and the defaults, 2 to 14 must be right. With
    `preference`, a sample passes if it is preferred to the reference, an additional sample of the initial model."""
    min_prompts: int = Field(default=32, ge=1)
    """The stage stops, showing the histogram of pass rates, if fewer problems of a source are inside the band."""

    @model_validator(mode="after")
    def _ordered(self) -> BandConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        return self


class JudgeConfig(ServerConfig):
    """A served model that compares answers, asked in both orders at temperature 0."""

    url: str = Field(pattern=r"^https?://")
    """Base URL of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """Name of the served model."""
    max_new_tokens: int = Field(default=4096, ge=1)
    """Maximum tokens per reply. The verdict is one token; the rest is for models that think first."""


class RlConfig(ScheduleConfig, ToolSamplingConfig, ChatStageConfig):
    """Reinforcement learning by GRPO (arXiv 2402.03300) without a KL term; on-policy unless configured otherwise."""

    kind: Literal["rl"]
    problems: list[RewardedProblemsConfig] = Field(min_length=1)
    """Problems to train on, by source."""
    band: BandConfig = Field(default_factory=BandConfig)
    """Range of pass rates in which problems are trained on."""
    preference_form: str = "words"
    """Prompt format for the preference model, which is asked which of two answers is better: `words`, or a plug-in
    (entry points `thinkling.pairwise_forms`). Its two verdicts must be one token each."""
    judge: JudgeConfig | None = None
    """A served model, used instead of the input `preference_model`. The reward is 1 if it prefers the sample in both
    orders, 0 if it prefers the reference in both, and 0.5 otherwise."""
    steps: int = Field(ge=1)
    """Rollout batches; each is used for `updates_per_batch` optimizer steps."""
    prompts_per_step: int = Field(ge=1)
    """Prompts per step whose samples have different rewards; prompts with equal rewards are dropped and refilled."""
    samples_per_prompt: int = Field(default=8, ge=2)
    """Samples per prompt (GRPO group size)."""
    smallest_group: int = Field(default=2, ge=2)
    """Minimum samples with a reward per group; smaller groups are dropped and refilled."""
    max_refills: int = Field(default=3, ge=0)
    """Maximum refill rounds per step, each asking as many new prompts as are still missing."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature. At 1, samples come from the model's own distribution, for which the gradient is
    computed."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling. Below 1, samples deviate from the distribution for which the gradient is computed,
    uncorrected."""
    max_concurrent: int = Field(default=256, ge=1)
    """Maximum number of sequences decoded at the same time."""
    advantage: Literal["mean_std", "mean"] = "mean_std"
    """Reward minus the group's mean; `mean_std` also divides by the group's standard deviation (GRPO), `mean` does not
    (Dr. GRPO, arXiv 2503.20783)."""
    normalisation: Literal["tokens", "sequences", "dr_grpo"] = "tokens"
    """Divisor of the summed loss, over the whole batch: the number of loss tokens (`tokens`: DAPO, arXiv 2503.14476);
    the number of sequences, after averaging over each one's tokens (`sequences`: GRPO); sequences × `max_new_tokens`
    (`dr_grpo`)."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Optimizer steps per rollout batch. 1 is fully on-policy; with N > 1 the groups are split into N minibatches and
    the probability ratio is clipped."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Lower clipping range, see `clip_high`."""
    clip_high: float = Field(default=0.2, gt=0)
    """The ratio to the sampling policy is clipped to [1 - clip_low, 1 + clip_high]; no effect when on-policy."""
    micro_tokens: int = Field(default=16384, ge=1)
    """Maximum tokens per forward pass; a longer sample is processed alone."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints. A killed run resumes from the latest one."""
    rollouts_every: int = Field(default=10, ge=1)
    """Keep the rollouts of every N-th step in the artifact, for inspection."""

    output_version: ClassVar[int] = 6
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "preference_model?": "model", "state?": "state"}

    @model_validator(mode="after")
    def _preference_model(self) -> RlConfig:
        needed = [p.source for p in self.problems if p.compares]
        if self.judge is not None:
            if "preference_model" in self.inputs:
                raise ValueError("judge: inputs.preference_model already compares answers; remove one of the two")
            if not needed:
                raise ValueError("judge: no source has the reward preference; remove it, or set the reward")
            return self
        if needed and "preference_model" not in self.inputs:
            raise ValueError(
                f"inputs.preference_model is missing: source {needed[0]!r} has the reward preference, so set the "
                "stage whose model compares answers (inputs: {model: …, preference_model: …}), or a served one (judge: "
                "{url: …, model: …})"
            )
        if "preference_model" in self.inputs and not needed:
            raise ValueError(
                "inputs.preference_model: no source has the reward preference; remove it, or set the reward"
            )
        return self

    @model_validator(mode="after")
    def _sizes(self) -> RlConfig:
        if self.smallest_group > self.samples_per_prompt:
            raise ValueError(
                f"smallest_group {self.smallest_group} exceeds samples_per_prompt {self.samples_per_prompt}"
            )
        if self.updates_per_batch > self.prompts_per_step:
            raise ValueError(
                f"updates_per_batch {self.updates_per_batch} exceeds prompts_per_step {self.prompts_per_step}"
            )
        sources = [p.source for p in self.problems]
        if len(set(sources)) < len(sources):
            raise ValueError("problems: a source is listed twice")
        return self

    def needs(self) -> list[Need]:
        return [*(p.need() for p in self.problems), *super().needs()]

    def judges(self) -> list[str]:
        return [*(p.source for p in self.problems), *super().judges()]

    def calls(self) -> list[str]:
        return [*(p.source for p in self.problems if self.max_tool_calls), *super().calls()]
