"""What a recipe may say about optimizer and precision. Imports no torch: the CLI reads it before all else loads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Dtype = Literal["float32", "bfloat16"]


class PrecisionConfig(BaseModel):
    """Dtypes of a stage that trains. The dtype of the checkpoint that it starts from decides neither."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    compute: Dtype = "float32"
    """What the forward and backward pass compute in. `bfloat16`: with copies of the weights and hidden states in bf16;
    statistics of norms, softmax, losses and sums of gradients stay fp32. `float32` where not set, on every device: the
    same recipe gives the same model. On a GPU set `bfloat16`, without which fast attention kernels do not run."""
    weights: Dtype = "float32"
    """What weights and optimizer state are kept in. `bfloat16` (adamw only) halves their memory: 6 instead of 12 bytes
    per parameter. Updates are then rounded stochastically, since at learning rates below about 1e-4 rounding to the
    nearest would lose most of them; that costs some noise in the weights. The exported model has this dtype."""


class OptimizerConfig(BaseModel):
    """Optimizer and clipping of one stage. The schedule (`schedule.py`) gives the learning rate of each step."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw`: fused AdamW everywhere. `muon`: Muon on the layers' matrices, AdamW on all other parameters."""
    lr: float = Field(default=4.5e-4, gt=0.0)
    """Peak learning rate, from which a stage builds its schedule (default: docs/recipe.md, Pre-training).
    `Trainer.step` is given the rate of each step and does not read this."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment (docs/recipe.md, Choices of ours)."""
    eps: float = Field(default=1e-8, gt=0.0)
    """AdamW's term in the denominator."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    """Decoupled decay of matrices, times the learning rate; not of norms, biases, embeddings or a head tied to them."""
    clip_norm: float | None = Field(default=1.0, gt=0.0)
    """Largest 2-norm of the whole gradient, of the mean loss a token; null: never clipped."""
    muon_momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Muon's Nesterov momentum (Jordan 2024)."""
    muon_iterations: int = Field(default=5, ge=1, le=20)
    """Newton–Schulz iterations of one Muon update (Jordan 2024)."""
    muon_scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Scale of a Muon update by the matrix's shape: `match_rms_adamw` has the RMS of a typical AdamW update, so that
    both share a learning rate (Liu et al. 2025, arXiv 2502.16982); `original` is sqrt(max(1, rows / columns))."""
    adamw_lr_scale: float = Field(default=1.0, gt=0.0)
    """With `muon`: learning rate of AdamW's parameters, as a multiple of the step's learning rate."""
