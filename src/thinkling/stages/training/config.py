"""Configuration shared by training stages. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thinkling.model.config import LoraConfig
from thinkling.names import Name
from thinkling.plugins import Registry
from thinkling.stages.base import Need, StageConfig
from thinkling.stages.sampling import ToolSamplingConfig
from thinkling.stages.training.memory import Batch
from thinkling.train.config import OptimizerConfig, ParallelConfig, PrecisionConfig, Recompute, SpikesConfig
from thinkling.train.schedule import DecayShape, Schedule, warmup_stable_decay

LOSS = "loss"
"""Name under which the validation loss is reported to callbacks. Task sets are reported under their own names."""


class TrainingConfig(StageConfig):
    """Fields shared by all training stages."""

    optimizer: OptimizerConfig
    """Optimizer, peak learning rate and gradient clipping."""
    precision: PrecisionConfig = PrecisionConfig()
    """Dtype of the computation (`compute`), and dtype of the weights and the optimizer state (`weights`). Both default
    to fp32."""
    recompute: Recompute = "none"
    """What the backward pass computes again instead of keeping it in memory. `none`: nothing, which is fastest.
    `selective`: everything in a layer except attention (on a CPU: everything). `full`: whole layers, which needs the
    least memory and takes about a third longer."""
    compile: bool = False
    """Whether to compile each layer with torch.compile, which takes some seconds at the start of training. It has an
    effect on a GPU only."""
    spikes: SpikesConfig | None = None
    """What happens at a step whose gradient is far larger than usual (`factor`, `window`), or whose loss or gradient is
    not finite. If not set, only a loss or gradient that is not finite ends training, with an error."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Number of steps between checkpoints. A killed run resumes from the latest checkpoint."""
    async_checkpoints: bool = False
    """Whether checkpoints are written in the background while training continues. The state is first copied to host
    memory, which needs as much memory as a checkpoint, or up to twice as much on a GPU. The checkpoints are the same
    either way, and the setting can be changed when a run is resumed."""
    parallel: ParallelConfig = ParallelConfig()
    """How processes started by torchrun share the model: copies (`replicas`), and when weights are gathered
    (`reshard_after_forward`, `prefetch`). Has no effect in a single process. Can be changed when a run is resumed."""
    keep_state: bool = False
    """Whether to store the final training state (weights and optimizer state; with AdamW in fp32, about three times the
    size of the model) as `state/` in the artifact. A later stage can then continue from it with `inputs: {state:
    THIS_STAGE}`."""

    uses_torch: ClassVar[bool] = True
    loss: ClassVar[Literal["next_token", "log_probs"]] = "next_token"
    """Which of the losses in model/loss.py the stage uses, for predictions of its memory."""
    not_hashed: ClassVar[frozenset[str]] = frozenset({"async_checkpoints", "parallel"})

    @abstractmethod
    def largest_batches(self, ranks: int, sure: bool = False) -> list[Batch]:
        """Returns the shapes of the micro-batches of a process, in the order of their first step. If they depend on
        data, they are the largest possible ones or, with `sure`, not larger than those that will occur."""

    @property
    def products(self) -> frozenset[str]:
        return frozenset({self.produces, "state"}) if self.keep_state else frozenset({self.produces})

    @model_validator(mode="after")
    def _weights_of_the_optimizer(self) -> TrainingConfig:
        if self.precision.weights == "bfloat16" and self.optimizer.name == "muon":
            raise ValueError(
                "precision.weights: muon requires float32, because only adamw rounds its updates stochastically; set "
                "precision.weights to float32, or optimizer.name to adamw"
            )
        return self

    @model_validator(mode="after")
    def _processes_of_the_stage(self) -> TrainingConfig:
        if not self.distributed and self.parallel != ParallelConfig():
            raise ValueError(f"parallel: has no effect, because {self.kind} runs in one process; remove it")
        return self

    @model_validator(mode="after")
    def _state_of_the_model(self) -> TrainingConfig:
        state, model = self.inputs.get("state"), self.inputs.get("model")
        if state and model and state != model:
            raise ValueError(
                f"inputs.state: {state!r} is not the stage of inputs.model, {model!r}; a state contains the model's "
                "weights, so set both inputs to the same stage"
            )
        return self


class EvaluatedProblemsConfig(BaseModel):
    """Problems on which the model is scored during training. They are taken from the training split because the scores
    may be used to choose a checkpoint; held-out problems are reserved for the final score."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Name of a source that provides problems."""
    n_problems: int = Field(ge=1)
    """Number of problems to take from the training split. All runs and stages take the same problems, and this stage
    does not train on them."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Problem families to use. If not set, all families of the source are used."""
    renderer: str = "chat"
    """How each problem is presented to the model. The options are the same as in the task sets of an evaluate stage."""


class EvaluationConfig(ToolSamplingConfig):
    """Problems and sampling settings with which avg@k is measured during training."""

    task_sets: dict[Name, EvaluatedProblemsConfig] = Field(min_length=1)
    """Name of each task set → its problems. The score of an evaluation is the mean over task sets."""
    k: int = Field(default=1, ge=1)
    """Number of samples per problem. The default is 1 because additional problems narrow the confidence interval faster
    than additional samples per problem."""

    @field_validator("task_sets")
    @classmethod
    def _names(cls, task_sets: dict[str, EvaluatedProblemsConfig]) -> dict[str, EvaluatedProblemsConfig]:
        if LOSS in task_sets:
            raise ValueError(f"{LOSS!r} is reserved for the validation loss; rename the task set")
        return task_sets


class EvaluatedConfig(TrainingConfig):
    """Fields shared by the stages that can evaluate the model during training."""

    evaluate_every: int | None = Field(default=None, ge=1)
    """Number of steps between evaluations. The model is also evaluated after the last step. If not set, the model is
    not evaluated during training."""
    evaluate_at_start: bool = True
    """Whether to evaluate the initial model too, as step 0, so that the effect of training is visible. Has no effect
    without `evaluate_every`."""
    evaluation: EvaluationConfig | None = None
    """Problems on which the model is scored during training, and the sampling settings."""
    keep_best: bool = False
    """Whether to export the model of the best evaluation instead of the model of the last step. The best evaluation has
    the highest mean over task sets or, if there are no task sets, the lowest validation loss; in case of a tie, the
    earlier evaluation is used. The initial model (step 0) is included if it is evaluated."""

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
                    raise ValueError(
                        f"{name}: has no effect without evaluate_every; set evaluate_every to a number of steps"
                    )
        elif not measured:
            known = "evaluation" + (
                " or validation_fraction" if "validation_fraction" in type(self).model_fields else ""
            )
            raise ValueError(f"evaluate_every: there is nothing to evaluate; set {known}")
        if self.keep_best and self.keep_state:
            raise ValueError(
                "keep_state: the training state is from the last step, but with keep_best the exported model may be "
                "from an earlier step, so state and model would not match; set keep_state or keep_best to false"
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


class DryRunConfig(BaseModel):
    """Dry-run step of the stages whose rows all have the same length."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    dry_run_step: bool | None = None
    """Whether a step of the largest shapes is computed and discarded before training, so that layers are compiled and a
    lack of memory shows at once. The result does not depend on it. If not set, there is a dry-run step on a GPU only,
    because nothing is compiled on a CPU."""


class MicroBatchConfig(BaseModel):
    """Division of a step's batch into forward passes, for stages in which all items of a batch have the same length."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Number of batch items that each rank processes in one forward pass. If not set, a rank processes all of its items
    at once."""


class NextTokenConfig(BaseModel):
    """Loss of the stages that predict the next token."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the z-loss: the mean over loss tokens of log² Z is multiplied by this weight and added to the loss,
    where Z is the sum of exp(logit) over the vocabulary. The z-loss keeps the logits from drifting, which can make
    training unstable; PaLM used 1e-4 (arXiv 2204.02311). With 0, there is no z-loss."""


class ScheduleConfig(EvaluatedConfig):
    """Learning rate schedule: a linear warm-up, a plateau at the optimizer's `lr`, then a decay."""

    warmup_steps: int = Field(default=0, ge=0)
    """Number of steps over which the learning rate increases linearly from 0 to its peak."""
    decay_fraction: float = Field(default=0.5, ge=0, le=1)
    """Fraction of all steps, at the end of training, over which the learning rate decays to `final_lr_fraction` of its
    peak."""
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the end of training, as a fraction of the peak."""
    decay_shape: DecayShape = "linear"
    """Shape of the decay curve."""

    def schedule(self, total_steps: int, updates_per_step: int = 1) -> Schedule:
        """Returns the learning rate schedule for `total_steps` steps of `updates_per_step` updates each."""
        return warmup_stable_decay(
            total_steps * updates_per_step,
            self.optimizer.lr,
            self.warmup_steps * updates_per_step,
            self.decay_fraction,
            self.final_lr_fraction,
            self.decay_shape,
        )


class PostTrainingConfig(ScheduleConfig):
    """Fields shared by the stages that start from a trained model."""

    lora: LoraConfig | None = None
    """Low-rank adapters. If set, only the adapters are trained, and the weights of the model are frozen. The stage
    exports the merged model as `model/`, and the adapters as `adapter/`, in peft's format. If not set, all weights are
    trained."""

    @model_validator(mode="after")
    def _lora_fits(self) -> PostTrainingConfig:
        if self.lora is None:
            return self
        if self.optimizer.name == "muon":
            raise ValueError(
                "lora: muon makes the update of a whole matrix orthogonal, which has no meaning for the two factors of "
                "an adapter; set optimizer.name to adamw"
            )
        given = "keep_state" if self.keep_state else "inputs.state" if "state" in self.inputs else None
        if given is not None:
            raise ValueError(
                f"{given}: not supported with lora, because the exported model already contains the adapters; a "
                f"continued run would add them twice; remove {given} or lora"
            )
        return self


TRACKERS = Registry(
    "tracker",
    "thinkling.trackers",
    {
        "tensorboard": "thinkling.stages.training.trackers:TensorBoard",
        "wandb": "thinkling.stages.training.trackers:Wandb",
    },
)
"""Key in a recipe's `trackers` → `Tracker` class. The key is also the name of the tracker's directory inside the run's
directory."""


class WandbConfig(BaseModel):
    """Settings for Weights & Biases. The API key is read from WANDB_API_KEY or from the login stored by `wandb login`,
    never from the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    project: str = Field(min_length=1)
    """W&B project to which the runs are logged."""
    entity: str | None = None
    """W&B user or team that owns the project. Defaults to the account's default entity."""
    mode: Literal["online", "offline"] = "online"
    """`online` uploads during training. `offline` only writes to runs/NAME/wandb/, from which `wandb sync` can upload
    later."""


class TrackersConfig(BaseModel):
    """Experiment trackers to which training is logged in addition to metrics.jsonl. Trackers do not affect the result,
    so these settings are never hashed and can be changed when a run is resumed.

    Every key other than `tensorboard` and `wandb` is the name of a tracker that a package provides (an entry point in
    the group `thinkling.trackers`); its value contains the settings of this tracker.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    tensorboard: bool = False
    """Whether to write TensorBoard event files to runs/NAME/tensorboard/STAGE/."""
    wandb: WandbConfig | None = None
    """Settings for Weights & Biases. If set, each training stage is logged as a W&B run named NAME/STAGE."""
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)

    @model_validator(mode="after")
    def _known(self) -> TrackersConfig:
        for name in self.model_extra or {}:
            if name not in TRACKERS:
                raise ValueError(
                    f"unknown tracker {name!r}; known trackers are {', '.join(TRACKERS.names())}; a package can add a "
                    f"tracker with an entry point in the group {TRACKERS.group}"
                )
        return self

    def chosen(self) -> Mapping[str, Any]:
        """Returns the name and the settings of every enabled tracker."""
        built_in: dict[str, Any] = {"tensorboard": self.tensorboard or None, "wandb": self.wandb}
        asked = built_in | (self.model_extra or {})
        return {name: settings for name, settings in asked.items() if settings is not None}
