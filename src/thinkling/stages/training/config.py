"""Configuration that the stages which train share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.plugins import Registry
from thinkling.stages.base import StageConfig
from thinkling.train.config import OptimizerConfig
from thinkling.train.schedule import DecayShape, Schedule, warmup_stable_decay


class TrainingConfig(StageConfig):
    """Fields of every stage that trains."""

    optimizer: OptimizerConfig
    """Optimizer, its peak learning rate, and clipping."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints, from which a killed run continues."""
    keep_state: bool = False
    """Keep the final training state (weights and optimizer, about three times the model's size in fp32 with AdamW) as
    `state/` in the artifact, so that another stage can continue from it: `inputs: {state: THIS_STAGE}`."""

    uses_torch: ClassVar[bool] = True

    @property
    def products(self) -> frozenset[str]:
        return frozenset({self.produces, "state"}) if self.keep_state else frozenset({self.produces})

    @model_validator(mode="after")
    def _state_of_the_model(self) -> TrainingConfig:
        state, model = self.inputs.get("state"), self.inputs.get("model")
        if state and model and state != model:
            raise ValueError(
                f"inputs.state: {state!r} is not the stage of inputs.model, {model!r}; a state holds its own weights, "
                "so name one stage in both"
            )
        return self


class MicroBatchConfig(BaseModel):
    """How a step's batch is cut into forward passes, where items have equal length."""

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Items of the batch per forward pass and rank; all of a rank's items where not set."""


class ScheduleConfig(TrainingConfig):
    """A learning rate that warms up, stays at the optimizer's `lr`, and decays."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    decay_fraction: float = Field(default=0.5, ge=0, le=1)
    """Last fraction of the steps, over which the learning rate falls to `final_lr_fraction` of its peak."""
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
    """Final learning rate as a fraction of the peak."""
    decay_shape: DecayShape = "linear"
    """Curve of the decay."""

    def schedule(self, total_steps: int, updates_per_step: int = 1) -> Schedule:
        """Learning rate of each of `total_steps` steps, every one of which has so many updates."""
        return warmup_stable_decay(
            total_steps * updates_per_step,
            self.optimizer.lr,
            self.warmup_steps * updates_per_step,
            self.decay_fraction,
            self.final_lr_fraction,
            self.decay_shape,
        )


TRACKERS = Registry(
    "tracker",
    "thinkling.trackers",
    {
        "tensorboard": "thinkling.stages.training.trackers:TensorBoard",
        "wandb": "thinkling.stages.training.trackers:Wandb",
    },
)
"""Key of a recipe's `trackers` → its class, a `Tracker`. A tracker's folder in a run's folder bears the same name."""


class WandbConfig(BaseModel):
    """Weights & Biases. The API key comes from WANDB_API_KEY or `wandb login`, never from a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    project: str = Field(min_length=1)
    """Project that the runs appear in."""
    entity: str | None = None
    """User or team; the account's default where not set."""
    mode: Literal["online", "offline"] = "online"
    """`offline`: files under runs/NAME/wandb/ only, to be uploaded with `wandb sync`."""


class TrackersConfig(BaseModel):
    """Where training is logged besides metrics.jsonl. A machine setting: never hashed, free to change on a resume.

    A further key is the name of a tracker that a package adds (entry points `thinkling.trackers`), with its settings.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    tensorboard: bool = False
    """Event files under runs/NAME/tensorboard/STAGE/."""
    wandb: WandbConfig | None = None
    """A run per stage that trains, named NAME/STAGE."""
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)

    @model_validator(mode="after")
    def _known(self) -> TrackersConfig:
        for name in self.model_extra or {}:
            if name not in TRACKERS:
                raise ValueError(
                    f"unknown tracker {name!r}; known are {', '.join(TRACKERS.names())}; a package adds one by an "
                    f"entry point of the group {TRACKERS.group}"
                )
        return self

    def chosen(self) -> Mapping[str, Any]:
        """Tracker → its settings, of those that are asked for."""
        built_in: dict[str, Any] = {"tensorboard": self.tensorboard or None, "wandb": self.wandb}
        asked = built_in | (self.model_extra or {})
        return {name: settings for name, settings in asked.items() if settings is not None}
