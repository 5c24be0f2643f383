"""Configuration shared by training stages. Imports no torch."""

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
"""Name under which the validation loss is reported to callbacks, alongside the task sets."""


class TrainingConfig(StageConfig):
    """Fields of every training stage."""

    optimizer: OptimizerConfig
    """Optimizer, peak learning rate and gradient clipping."""
    precision: PrecisionConfig = PrecisionConfig()
    """Dtypes of computation (`compute`) and of weights and optimizer state (`weights`); both default to fp32."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints. A killed run resumes from the latest one."""
    keep_state: bool = False
    """Keep the final training state (weights and optimizer; with AdamW in fp32 about three times the model's size) as
    `state/` in the artifact, so that another stage can continue from it: `inputs: {state: THIS_STAGE}`."""

    uses_torch: ClassVar[bool] = True

    @property
    def products(self) -> frozenset[str]:
        return frozenset({self.produces, "state"}) if self.keep_state else frozenset({self.produces})

    @model_validator(mode="after")
    def _weights_of_the_optimizer(self) -> TrainingConfig:
        if self.precision.weights == "bfloat16" and self.optimizer.name == "muon":
            raise ValueError(
                "precision.weights: muon keeps weights in float32, since only adamw's updates are rounded "
                "stochastically; set it to float32, or optimizer.name to adamw"
            )
        return self

    @model_validator(mode="after")
    def _state_of_the_model(self) -> TrainingConfig:
        state, model = self.inputs.get("state"), self.inputs.get("model")
        if state and model and state != model:
            raise ValueError(
                f"inputs.state: {state!r} is not the stage of inputs.model, {model!r}; a state includes its weights, "
                "so name one stage in both"
            )
        return self


class EvaluatedProblemsConfig(BaseModel):
    """Problems on which the model is scored during training. They come from the training split, since they may be used
    to choose a checkpoint; held-out problems are reserved for the final score."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems."""
    n_problems: int = Field(ge=1)
    """Number of problems from the training split, the same in every run and stage. The stage does not train on them."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families to use; if not set, all families of the source."""
    renderer: str = "chat"
    """How the problem is presented to the model, as in the task sets of an evaluate stage."""


class EvaluationConfig(ToolSamplingConfig):
    """avg@k during training: what the model is scored on, and how it is sampled."""

    task_sets: dict[Name, EvaluatedProblemsConfig] = Field(min_length=1)
    """Name → problems. The score is the mean over task sets."""
    k: int = Field(default=1, ge=1)
    """Samples per problem. Defaults to 1, since more problems narrow the interval faster than more samples per
    problem."""

    @field_validator("task_sets")
    @classmethod
    def _names(cls, task_sets: dict[str, EvaluatedProblemsConfig]) -> dict[str, EvaluatedProblemsConfig]:
        if LOSS in task_sets:
            raise ValueError(f"{LOSS!r} cannot be a task set's name: it is the validation loss")
        return task_sets


class EvaluatedConfig(TrainingConfig):
    """Fields of stages that can evaluate the model during training."""

    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations, plus one after the last step. If not set, the model is not evaluated."""
    evaluate_at_start: bool = True
    """With `evaluate_every`: also evaluate the initial model, as step 0, to show what training adds."""
    evaluation: EvaluationConfig | None = None
    """Problems on which the model is scored."""
    keep_best: bool = False
    """Export the model of the best evaluation instead of the last step's: the highest mean over task sets or, if there
    are none, the lowest validation loss; the earlier one in case of ties. Step 0 counts if it is evaluated."""

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
                    raise ValueError(f"{name}: has no effect without evaluate_every; set it, in steps")
        elif not measured:
            known = "evaluation" + (
                " or validation_fraction" if "validation_fraction" in type(self).model_fields else ""
            )
            raise ValueError(f"evaluate_every: there is nothing to evaluate; set {known}")
        if self.keep_best and self.keep_state:
            raise ValueError(
                "keep_state: the training state is that of the last step, but with keep_best the model may be from "
                "an earlier one, so the two would not match; set one of them to false"
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
    """How a step's batch is split into forward passes, for items of equal length."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Batch items per forward pass and rank; if not set, all items of a rank."""


class ScheduleConfig(EvaluatedConfig):
    """A learning rate that warms up, stays at the optimizer's `lr`, then decays."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear learning rate warm-up from 0."""
    decay_fraction: float = Field(default=0.5, ge=0, le=1)
    """Fraction of steps at the end of training over which the learning rate decays to `final_lr_fraction` of its
    peak."""
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
    """Final learning rate, as a fraction of the peak."""
    decay_shape: DecayShape = "linear"
    """Curve of the decay."""

    def schedule(self, total_steps: int, updates_per_step: int = 1) -> Schedule:
        """Learning rate of each of `total_steps` steps, expanded to `updates_per_step` updates per step."""
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
"""Key in a recipe's `trackers` → its `Tracker` class. Also the name of the tracker's directory inside the run's."""


class WandbConfig(BaseModel):
    """Weights & Biases. The API key comes from WANDB_API_KEY or `wandb login`, never from the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    project: str = Field(min_length=1)
    """Project in which the runs appear."""
    entity: str | None = None
    """User or team; defaults to the account's default entity."""
    mode: Literal["online", "offline"] = "online"
    """`offline`: write to runs/NAME/wandb/ only, for a later `wandb sync`."""


class TrackersConfig(BaseModel):
    """Where training is logged in addition to metrics.jsonl. A machine setting: never hashed, and can be changed on
    resume.

    Other keys are trackers provided by packages (entry points `thinkling.trackers`), with their settings.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    tensorboard: bool = False
    """Write event files to runs/NAME/tensorboard/STAGE/."""
    wandb: WandbConfig | None = None
    """Log each training stage as a W&B run named NAME/STAGE."""
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
        """Tracker → its settings, for all enabled trackers."""
        built_in: dict[str, Any] = {"tensorboard": self.tensorboard or None, "wandb": self.wandb}
        asked = built_in | (self.model_extra or {})
        return {name: settings for name, settings in asked.items() if settings is not None}
