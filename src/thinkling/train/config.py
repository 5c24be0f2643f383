"""Optimizer and precision settings of a recipe. This module does not import torch, because the CLI imports it early."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.model.config import Float8Recipe

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Dtype = Literal["float32", "bfloat16"]
Recompute = Literal["none", "selective", "full"]


class PrecisionConfig(BaseModel):
    """Dtypes of a training stage. They do not depend on the dtype of the model from which the stage starts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    compute: Dtype = "float32"
    """Dtype of the forward and backward pass. With `bfloat16`, hidden states and copies of the weights are in bf16;
    statistics of norms, softmax, losses and accumulated gradients remain in fp32. The default is `float32` on every
    device, so that the same recipe produces the same model. On a GPU, set `bfloat16`, which the fast attention kernels
    require."""
    weights: Dtype = "float32"
    """Dtype of the weights and the optimizer state. `bfloat16` (adamw only) halves the memory for the weights and the
    optimizer state, from 12 to 6 bytes per parameter. Updates are then rounded stochastically, because rounding to
    nearest would lose most updates at learning rates below about 1e-4; stochastic rounding adds some noise to the
    weights. The exported model has this dtype."""
    float8: Float8Recipe | None = None
    """How the linear layers inside the decoder layers compute their products in 8-bit floating point, which is faster
    for large models; the head and attention are not affected. The names are those of torchao and torchtitan:
    `tensorwise` (one scale per matrix, usually the fastest), `rowwise` (one scale per row, so that an outlier affects
    its own row only), `rowwise_with_gw_hp` (as `rowwise`, but gradients of weights are computed in bf16, which is the
    most accurate). Linear layers with a size that is not a multiple of 16 are not affected. Requires `compute:
    bfloat16`, an NVIDIA GPU of compute capability 8.9 or higher, and, to be faster, `compile: true`. If not set,
    products are computed in the dtype `compute`."""

    @model_validator(mode="after")
    def _float8_of_bf16(self) -> PrecisionConfig:
        if self.float8 is not None and self.compute != "bfloat16":
            raise ValueError("float8: the products of fp8 numbers are rounded to bf16; set compute to bfloat16")
        return self


class ParallelConfig(BaseModel):
    """How the processes of a run that torchrun started share the model (FSDP2). It changes the results by rounding at
    most, and can be changed when a run is resumed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    replicas: int = Field(default=1, ge=1)
    """Number of copies of the model, which must divide the number of processes. With 1, all processes share one copy,
    which needs the least memory. With more (HSDP), each copy is sharded over consecutive processes, and gradients are
    summed over the copies. If this is the number of machines, the weights are gathered within each machine only."""
    reshard_after_forward: bool = True
    """Whether a process frees the gathered weights of a layer after its forward pass, and gathers them again for the
    backward pass. With false, they are gathered only once, which saves a third of the communication but keeps the
    weights of all layers in memory, in the dtype of the computation. Embeddings and head always stay gathered."""
    prefetch: int = Field(default=0, ge=0)
    """Number of layers whose weights are gathered in advance, while a layer computes. With 0, FSDP2 decides, which
    gathers about one layer in advance. More layers can hide a slow network, and each needs memory for its gathered
    weights."""

    def mismatch(self, processes: int) -> str | None:
        """Return an error message if the processes cannot hold `replicas` copies, otherwise None."""
        if processes % self.replicas == 0:
            return None
        return (
            f"parallel.replicas: {self.replicas} does not divide the number of processes, {processes}; change it, or "
            "start another number of processes with torchrun"
        )


class SpikesConfig(BaseModel):
    """What happens at a step whose gradient or loss is far larger than usual, or not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    action: Literal["skip", "stop", "roll_back"] = "skip"
    """`skip`: the step leaves the weights and the optimizer state unchanged, and training continues with the next
    batch. `stop`: training ends with an error; the last checkpoint is from before the spike. `roll_back`: training
    returns to the last checkpoint and skips all batches from there to the spike (not for rl). Before the first
    checkpoint, `roll_back` is the same as `skip`."""
    factor: float = Field(default=5.0, gt=1.0)
    """A step is a spike if the norm of its gradient, before clipping, is more than `factor` times the median of the
    last `window` steps."""
    loss_factor: float | None = Field(default=None, gt=1.0)
    """The same limit for the mean loss per token. By default, only the gradient is compared, because the gradient grows
    by a large factor at a spike, whereas a loss of 2 nats rarely does."""
    window: int = Field(default=128, ge=2)
    """Number of steps over which the median is taken. Skipped steps are not included. Until there are this many steps,
    only a loss or gradient that is not finite is a spike."""
    limit: int = Field(default=10, ge=1)
    """Training ends with an error if more than this number of steps in a row are spikes, or, with `roll_back`, if
    training would return to the same checkpoint more often than this."""


class OptimizerConfig(BaseModel):
    """Optimizer and gradient clipping of one stage. The schedule (`schedule.py`) sets each step's learning rate."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw`: fused AdamW for all parameters. `muon`: Muon for the layers' matrices, AdamW for other parameters."""
    lr: float = Field(default=4.5e-4, gt=0.0)
    """Peak learning rate, from which a stage builds its schedule (default: docs/recipe.md, Pre-training).
    `Trainer.step` does not use this field; it takes the learning rate of each step as an argument."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment (docs/recipe.md, Choices of ours)."""
    eps: float = Field(default=1e-8, gt=0.0)
    """AdamW's epsilon, which is added to the denominator."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    """Decoupled weight decay, which is multiplied by the learning rate. It applies to matrices, but not to norms,
    biases, embeddings or a head that is tied to the embeddings."""
    clip_norm: float | None = Field(default=1.0, gt=0.0)
    """Maximum 2-norm of the whole gradient of the mean loss per token. With null, gradients are not clipped."""
    muon_momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Muon's Nesterov momentum (Jordan 2024)."""
    muon_iterations: int = Field(default=5, ge=1, le=20)
    """Number of Newton–Schulz iterations per Muon update (Jordan 2024)."""
    muon_scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Shape-dependent scale of a Muon update. `match_rms_adamw` matches the RMS of a typical AdamW update, so that Muon
    and AdamW can use the same learning rate (Liu et al. 2025, arXiv 2502.16982). `original` is
    sqrt(max(1, rows / columns))."""
    adamw_lr_scale: float = Field(default=1.0, gt=0.0)
    """With `muon`: learning rate of the parameters that AdamW trains, as a multiple of the step's learning rate."""
    offload: bool = False
    """Whether the optimizer state (the two moments of `adamw`) is kept in the memory of the host, which frees 8 bytes
    per parameter on the GPU, or 4 with `precision.weights: bfloat16`. Each update moves the state to the GPU and back,
    in parts, so it takes longer: about 0.15 s per billion parameters and direction in fp32 (PCIe 5.0). Weights and
    checkpoints are the same, bit for bit. Without a GPU, it only costs time."""

    @model_validator(mode="after")
    def _offload_of_adamw(self) -> OptimizerConfig:
        if self.offload and self.name == "muon":
            raise ValueError(
                "offload: not supported with muon, which updates all matrices of a shape at once; set offload to "
                "false, or name to adamw"
            )
        return self
