"""Configuration that the stages which train share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thinkling.names import Name
from thinkling.plugins import Registry
from thinkling.stages.base import Need, StageConfig
from thinkling.stages.sampling import ToolSamplingConfig
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.schedule import DecayShape, Schedule, warmup_stable_decay

LOSS = "loss"
"""Name under which callbacks are told of the validation loss, beside the task sets'."""


class TrainingConfig(StageConfig):
    """Fields of every stage that trains."""

    optimizer: OptimizerConfig
    """Optimizer, its peak learning rate, and clipping."""
    precision: PrecisionConfig = PrecisionConfig()
    """Dtypes of computation (`compute`) and of weights and optimizer state (`weights`); fp32 both where not set."""
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
    def _weights_of_the_optimizer(self) -> TrainingConfig:
        if self.precision.weights == "bfloat16" and self.optimizer.name == "muon":
            raise ValueError(
                "precision.weights: muon keeps its weights in float32, since only adamw's updates are rounded "
                "stochastically; set it to float32, or optimizer.name to adamw"
            )
        return self

    @model_validator(mode="after")
    def _state_of_the_model(self) -> TrainingConfig:
        state, model = self.inputs.get("state"), self.inputs.get("model")
        if state and model and state != model:
            raise ValueError(
                f"inputs.state: {state!r} is not the stage of inputs.model, {model!r}; a state holds its own weights, "
                "so name one stage in both"
            )
        return self


class EvaluatedProblemsConfig(BaseModel):
    """Problems that a model is scored on while it is trained. They are training problems, since a checkpoint may be
    chosen by them: the held-out ones are for the final score alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems."""
    n_problems: int = Field(ge=1)
    """Problems of the training split, the same ones in every run and stage. The stage does not train on them."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them if not set."""
    renderer: str = "chat"
    """How the model is asked: as in the task sets of an evaluate stage."""


class EvaluationConfig(ToolSamplingConfig):
    """avg@k during training: what the model is scored on, and how it is sampled."""

    task_sets: dict[Name, EvaluatedProblemsConfig] = Field(min_length=1)
    """Name → problems. A score is the mean over the task sets."""
    k: int = Field(default=1, ge=1)
    """Samples per problem. 1, since more problems narrow the interval further than more samples of the same ones."""

    @field_validator("task_sets")
    @classmethod
    def _names(cls, task_sets: dict[str, EvaluatedProblemsConfig]) -> dict[str, EvaluatedProblemsConfig]:
        if LOSS in task_sets:
            raise ValueError(f"{LOSS!r} cannot be a task set's name: it is the validation loss")
        return task_sets


class EvaluatedConfig(TrainingConfig):
    """Fields of the stages that can evaluate the model while they train it."""

    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations; there is one more after the last step. None where not set."""
    evaluate_at_start: bool = True
    """With `evaluate_every`: also evaluate the model that enters, as step 0, so that it is seen what training adds."""
    evaluation: EvaluationConfig | None = None
    """Problems that the model is scored on."""
    keep_best: bool = False
    """Export the model of the best evaluation instead of the last step's: the highest mean over the task sets, or the
    least validation loss where there are none; of equal ones the earlier. Step 0 counts where it is evaluated."""

    @property
    def measures_loss(self) -> bool:
        """Whether an evaluation includes a validation loss."""
        return False

    @model_validator(mode="after")
    def _evaluation_fits(self) -> EvaluatedConfig:
        measured = self.evaluation is not None or self.measures_loss
        if self.evaluate_every is None:
            for name, given in {
                "evaluation": self.evaluation is not None,
                "validation_fraction": self.measures_loss,
                "keep_best": self.keep_best,
            }.items():
                if given:
                    raise ValueError(f"{name}: nothing is evaluated without evaluate_every; set it, in steps")
        elif not measured:
            known = "evaluation" + (
                " or validation_fraction" if "validation_fraction" in type(self).model_fields else ""
            )
            raise ValueError(f"evaluate_every: it is not said what to evaluate; give {known}")
        if self.keep_best and self.keep_state:
            raise ValueError(
                "keep_state: the training state is that of the last step, and with keep_best the model may be an "
                "earlier one, so the two would not fit; set one of them to false"
            )
        return self

    def needs(self) -> list[Need]:
        sets = self.evaluation.task_sets if self.evaluation else {}
        return [
            Need(f"evaluation.task_sets.{name}.source", s.source, "problems", "train", s.n_problems, s.families)
            for name, s in sets.items()
        ]

    def judges(self) -> list[str]:
        return [s.source for s in self.evaluation.task_sets.values()] if self.evaluation else []

    def calls(self) -> list[str]:
        return EvaluatedConfig.judges(self) if self.evaluation and self.evaluation.max_tool_calls else []


class MicroBatchConfig(BaseModel):
    """How a step's batch is cut into forward passes, where items have equal length."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Items of the batch per forward pass and rank; all of a rank's items where not set."""


class ScheduleConfig(EvaluatedConfig):
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
