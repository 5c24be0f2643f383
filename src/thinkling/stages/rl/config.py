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
from thinkling.stages.training.config import PostTrainingConfig
from thinkling.stages.training.memory import Batch

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
    """Problems of one source, and how their completions are rewarded. Only problems whose pass rate is inside the band
    are trained on."""

    weight: float = Field(default=1.0, gt=0)
    """Relative weight of this source when prompts are allocated to sources. After any number of steps, the sources'
    shares of the prompts match their weights up to rounding."""
    rewards: dict[str, float] = Field(default_factory=lambda: {"verdict": 1.0}, min_length=1)
    """Name of each reward → its weight. The reward of a sample is the weighted sum of these rewards. If one of them has
    no value for a sample, the sample is removed from its group. `verdict`: 1 for the verdict right, 0 for wrong, no
    value for other verdicts. `well_formed`: 1 if the reply can be parsed, otherwise 0. `preference`: probability, from
    0 to 1, that the model in the role `preference_model` prefers the sample's answer to an answer of the initial model.
    Packages can add rewards, which are functions of a problem and a rollout, with entry points in the group
    `thinkling.rewards`."""

    @property
    def compares(self) -> bool:
        """Whether the preference model compares samples with a reference."""
        return PREFERENCE in self.rewards

    @model_validator(mode="after")
    def _known_rewards(self) -> RewardedProblemsConfig:
        for name, weight in self.rewards.items():
            if name != PREFERENCE and name not in REWARDS:
                raise ValueError(
                    f"rewards: unknown reward {name!r}; use one of {', '.join([*REWARDS.names(), PREFERENCE])}"
                )
            if weight == 0:
                raise ValueError(f"rewards.{name}: weight 0 has no effect; remove the reward")
        return self


class BandConfig(BaseModel):
    """Selection of the problems to train on: those that the initial model answers correctly in some, but not all, of
    its samples (docs/recipe.md, RL)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    samples: int = Field(default=16, ge=2)
    """Number of samples per problem from which the pass rate is computed (docs/recipe.md, RL: avg@16)."""
    low: float = Field(default=0.1, ge=0, lt=1)
    """Lower bound of the pass rate, as a fraction. Problems are kept only if their pass rate is above this bound."""
    high: float = Field(default=0.9, gt=0, le=1)
    """Upper bound of the pass rate, as a fraction. Problems are kept only if their pass rate is below this bound; with
    16 samples and the default bounds, 2 to 14 samples must be correct. With the reward `preference`, a sample counts as
    correct if it is preferred to the reference, which is an additional sample of the initial model."""
    min_prompts: int = Field(default=32, ge=0)
    """Minimum number of problems of each source inside the band. If there are fewer, the stage stops and prints a
    histogram of the pass rates. With 0, a source without any such problem is skipped with a warning, and the other
    sources take its share; useful for sources that are only there so that solved problems are not forgotten."""

    @model_validator(mode="after")
    def _ordered(self) -> BandConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        return self


class JudgeConfig(ServerConfig):
    """A served model that compares answers. It compares each pair of answers in both orders, at temperature 0."""

    url: str = Field(pattern=r"^https?://")
    """Base URL of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """Name of the served model."""
    max_new_tokens: int = Field(default=4096, ge=1)
    """Maximum number of tokens per reply. The verdict is a single token; the rest leaves room for the reasoning of
    models that think first."""


class RlConfig(PostTrainingConfig, ToolSamplingConfig, ChatStageConfig):
    """Reinforcement learning with GRPO (arXiv 2402.03300) without a KL term. Training is on-policy by default."""

    kind: Literal["rl"]
    problems: list[RewardedProblemsConfig] = Field(min_length=1)
    """Problems to train on, with one entry per source."""
    band: BandConfig = Field(default_factory=BandConfig)
    """Range of pass rates within which a problem is trained on, and how pass rates are measured."""
    preference_form: str = "words"
    """Prompt format with which the preference model is asked which of two answers is better: `words`, or a plug-in
    (entry points in the group `thinkling.pairwise_forms`). Each of the format's two verdicts must be a single token."""
    judge: JudgeConfig | None = None
    """A served model that is used instead of the input `preference_model`. Sample and reference are compared in both
    orders: the reward `preference` is 1 if the model prefers the sample both times, 0 if it prefers the reference both
    times, and 0.5 otherwise."""
    steps: int = Field(ge=1)
    """Number of rollout batches. Each batch is used for `updates_per_batch` optimizer steps."""
    prompts_per_step: int = Field(ge=1)
    """Number of prompts per step. A prompt counts only if the rewards of its samples are not all equal; all other
    prompts are dropped and replaced by new prompts (see `max_refills`)."""
    samples_per_prompt: int = Field(default=8, ge=2)
    """Number of samples per prompt, i.e. the group size of GRPO."""
    smallest_group: int = Field(default=2, ge=2)
    """Minimum number of samples with a reward in a group. Smaller groups are dropped and replaced."""
    max_refills: int = Field(default=3, ge=0)
    """Maximum number of refill rounds per step. Each round samples as many new prompts as are still missing."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature. At 1, samples are drawn from the model's own distribution, for which the gradient is
    computed."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: probability mass of the most likely tokens to sample from. Below 1, samples deviate from the
    distribution for which the gradient is computed, and this is not corrected."""
    max_concurrent: int = Field(default=256, ge=1)
    """Maximum number of sequences decoded at the same time."""
    advantage: Literal["mean_std", "mean"] = "mean_std"
    """How advantages are computed. `mean`: reward minus the mean reward of the group (Dr. GRPO, arXiv 2503.20783).
    `mean_std`: in addition, divided by the standard deviation of the group's rewards (GRPO)."""
    normalisation: Literal["tokens", "sequences", "dr_grpo"] = "tokens"
    """Number by which the summed loss of the whole batch is divided. `tokens`: number of loss tokens (DAPO, arXiv
    2503.14476). `sequences`: number of sequences, after averaging over the tokens of each sequence (GRPO). `dr_grpo`:
    number of sequences times `max_new_tokens`."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Number of optimizer steps per rollout batch. With 1, training is fully on-policy. With N > 1, the groups are
    split into N minibatches and the probability ratio is clipped (see `clip_high`)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Lower clipping range; see `clip_high`."""
    clip_high: float = Field(default=0.2, gt=0)
    """Upper clipping range. The probability ratio between the trained and the sampling policy is clipped to [1 -
    clip_low, 1 + clip_high]. Has no effect if training is on-policy."""
    micro_tokens: int = Field(default=16384, ge=1)
    """Maximum number of tokens per forward pass. A longer sample is processed on its own."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Number of steps between checkpoints. A killed run resumes from the latest checkpoint."""
    rollouts_every: int = Field(default=10, ge=1)
    """Interval in steps: the rollouts of every step whose number is a multiple of this value are kept in the artifact
    for inspection."""

    output_version: ClassVar[int] = 6
    produces: ClassVar[str] = "model"
    roles: ClassVar[Mapping[str, str]] = {"model": "model", "preference_model?": "model", "state?": "state"}
    loss: ClassVar[Literal["next_token", "log_probs"]] = "log_probs"

    def largest_batches(self, ranks: int, sure: bool = False) -> list[Batch]:
        """Samples are concatenated into one row, whose length depends on the samples. Prompts are not counted."""
        samples = self.prompts_per_step * self.samples_per_prompt // self.updates_per_batch
        tokens = max(self.micro_tokens, self.max_new_tokens)
        n = max(1, samples * self.max_new_tokens // tokens)
        return [
            Batch(1, 1, field=None) if sure else Batch(1, tokens, n, field="micro_tokens", least=self.max_new_tokens)
        ]

    @model_validator(mode="after")
    def _preference_model(self) -> RlConfig:
        needed = [p.source for p in self.problems if p.compares]
        if self.judge is not None:
            if "preference_model" in self.inputs:
                raise ValueError("judge: inputs.preference_model already compares answers; remove one of the two")
            if not needed:
                raise ValueError("judge: no source has the reward preference; remove judge, or add the reward")
            return self
        if needed and "preference_model" not in self.inputs:
            raise ValueError(
                f"inputs.preference_model is missing: source {needed[0]!r} has the reward preference; set the "
                "input to the stage whose model compares answers (inputs: {model: …, preference_model: …}), or use a "
                "served model (judge: {url: …, model: …})"
            )
        if "preference_model" in self.inputs and not needed:
            raise ValueError(
                "inputs.preference_model: no source has the reward preference; remove the input, or add the reward"
            )
        return self

    @model_validator(mode="after")
    def _sizes(self) -> RlConfig:
        if self.spikes is not None and self.spikes.action == "roll_back":
            raise ValueError(
                "spikes.action: rl samples its batches with the current weights, so no batches can be skipped after "
                "returning to a checkpoint; use skip or stop"
            )
        if self.spikes is not None and self.spikes.loss_factor is not None:
            raise ValueError(
                "spikes.loss_factor: the loss of rl is around 0, so a multiple of it is not a limit; remove loss_factor"
            )
        if self.smallest_group > self.samples_per_prompt:
            raise ValueError(
                f"smallest_group {self.smallest_group} exceeds samples_per_prompt {self.samples_per_prompt}; lower "
                "smallest_group"
            )
        if self.updates_per_batch > self.prompts_per_step:
            raise ValueError(
                f"updates_per_batch {self.updates_per_batch} exceeds prompts_per_step {self.prompts_per_step}; lower "
                "updates_per_batch"
            )
        sources = [p.source for p in self.problems]
        if len(set(sources)) < len(sources):
            raise ValueError("problems: a source is listed twice; remove one of the entries")
        return self

    def needs(self) -> list[Need]:
        return [*(p.need() for p in self.problems), *super().needs()]

    def judges(self) -> list[str]:
        return [*(p.source for p in self.problems), *super().judges()]

    def calls(self) -> list[str]:
        return [*(p.source for p in self.problems if self.max_tool_calls), *super().calls()]
