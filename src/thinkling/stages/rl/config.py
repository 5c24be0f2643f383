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
    """Problems of one source, and how completions of them are rewarded. The band keeps some of them."""

    weight: float = Field(default=1.0, gt=0)
    """Weight of this source among all: prompts are dealt by it, exactly over any stretch of steps."""
    rewards: dict[str, float] = Field(default_factory=lambda: {"verdict": 1.0}, min_length=1)
    """Reward → weight; a sample's reward is the weighted sum, and a sample that any of them leaves without a value
    leaves its group. `verdict`: right 1, wrong 0, no value for any other verdict. `well_formed`: 1 if the reply can be
    read. `preference`: the probability, in 0–1, with which the model of role `preference_model` prefers the answer to
    one of the entering model's. Others are entry points in the group `thinkling.rewards`: functions of problem and
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
    """Which problems are worth training on: those that the entering model sometimes gets right (docs/recipe.md,
    RL)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    samples: int = Field(default=16, ge=2)
    """Samples per problem (docs/recipe.md, RL: avg@16)."""
    low: float = Field(default=0.1, ge=0, lt=1)
    """Pass rate above which a problem is kept, as a fraction."""
    high: float = Field(default=0.9, gt=0, le=1)
    """A problem is kept if its pass rate lies strictly between the two: at 16 samples 2 to 14 right. By preference a
    sample passes that is preferred to the reference, a further sample of the entering model."""
    min_prompts: int = Field(default=32, ge=1)
    """Fewer problems of a source inside the band end the stage, with the histogram of pass rates."""

    @model_validator(mode="after")
    def _ordered(self) -> BandConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must lie below high {self.high}")
        return self


class JudgeConfig(ServerConfig):
    """A served model that compares answers, asked with temperature 0 for a verdict in both orders."""

    url: str = Field(pattern=r"^https?://")
    """Base address of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """The served model's name."""
    max_new_tokens: int = Field(default=4096, ge=1)
    """Of a reply: a verdict is one token, the rest is for models that think first."""


class RlConfig(ScheduleConfig, ToolSamplingConfig, ChatStageConfig):
    """Reinforcement learning by GRPO (arXiv 2402.03300) without KL term, on-policy unless told otherwise."""

    kind: Literal["rl"]
    problems: list[RewardedProblemsConfig] = Field(min_length=1)
    """Problems to train on, by source."""
    band: BandConfig = Field(default_factory=BandConfig)
    """Pass rates between which a problem is trained on."""
    preference_form: str = "words"
    """How the preference model is asked which of two answers is better: `words`, or a plug-in (entry points
    `thinkling.pairwise_forms`). Its two verdicts must be one token each."""
    judge: JudgeConfig | None = None
    """A served model in place of the input `preference_model`. The reward is 1 where it prefers the sample in both
    orders, 0 where it prefers the reference in both, else 0.5."""
    steps: int = Field(ge=1)
    """Rollout batches; each gives `updates_per_batch` updates."""
    prompts_per_step: int = Field(ge=1)
    """Prompts per step whose samples have different rewards; one with equal rewards is left out and refilled."""
    samples_per_prompt: int = Field(default=8, ge=2)
    """Samples per prompt."""
    smallest_group: int = Field(default=2, ge=2)
    """Samples with a reward that a group needs; a smaller one is refilled."""
    max_refills: int = Field(default=3, ge=0)
    """Rounds of further prompts a step, each of as many as are still missing."""
    temperature: float = Field(default=1.0, gt=0)
    """1 samples from the model's own distribution, whose gradient is taken."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Below 1 samples no longer come from the distribution whose gradient is taken; nothing corrects that."""
    max_concurrent: int = Field(default=256, ge=1)
    """Sequences decoded at once."""
    advantage: Literal["mean_std", "mean"] = "mean_std"
    """Reward minus the group's mean; `mean_std` divides by the group's standard deviation (GRPO), `mean` does not
    (Dr. GRPO, arXiv 2503.20783)."""
    normalisation: Literal["tokens", "sequences", "dr_grpo"] = "tokens"
    """What the summed loss is divided by, over the whole batch: its loss tokens (DAPO, arXiv 2503.14476); its
    sequences, after each one's mean over its tokens (GRPO); sequences × `max_new_tokens` (Dr. GRPO)."""
    updates_per_batch: int = Field(default=1, ge=1)
    """1 is on-policy. More deals a step's groups to so many minibatches, one update each, with clipped ratios."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """See clip_high."""
    clip_high: float = Field(default=0.2, gt=0)
    """The ratio to the sampling policy is clipped to 1 - clip_low … 1 + clip_high; without effect on-policy."""
    micro_tokens: int = Field(default=16384, ge=1)
    """Tokens of a forward pass; a single longer sample goes alone."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints, from which a killed run continues."""
    rollouts_every: int = Field(default=10, ge=1)
    """Every so many steps the rollouts stay in the artifact, to be read."""

    output_version: ClassVar[int] = 6
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "preference_model?": "model", "state?": "state"}

    @model_validator(mode="after")
    def _preference_model(self) -> RlConfig:
        needed = [p.source for p in self.problems if p.compares]
        if self.judge is not None:
            if "preference_model" in self.inputs:
                raise ValueError("judge: inputs.preference_model compares answers already; remove one of the two")
            if not needed:
                raise ValueError("judge: no source has the reward preference; leave it out, or set the reward")
            return self
        if needed and "preference_model" not in self.inputs:
            raise ValueError(
                f"inputs.preference_model is missing: source {needed[0]!r} has the reward preference, so name the "
                "stage whose model compares answers (inputs: {model: …, preference_model: …}), or a served one (judge: "
                "{url: …, model: …})"
            )
        if "preference_model" in self.inputs and not needed:
            raise ValueError(
                "inputs.preference_model: no source has the reward preference; leave it out, or set the reward"
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
            raise ValueError("problems: a source is named twice")
        return self

    def needs(self) -> list[Need]:
        return [*(p.need() for p in self.problems), *super().needs()]

    def judges(self) -> list[str]:
        return [*(p.source for p in self.problems), *super().judges()]

    def calls(self) -> list[str]:
        return [*(p.source for p in self.problems if self.max_tool_calls), *super().calls()]
