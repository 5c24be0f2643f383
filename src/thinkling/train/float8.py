"""Training with linear layers in 8-bit floating point, and the GPUs that can do it."""

from __future__ import annotations

import torch
from torch import nn

from thinkling.model.config import Float8Recipe
from thinkling.model.float8 import MULTIPLE, Float8Linear
from thinkling.model.lora import LoraLinear
from thinkling.train.parallel import layers

CAPABILITY = (8, 9)
"""The first compute capability (Ada) whose tensor cores multiply fp8 numbers."""


def use_float8(model: nn.Module, recipe: Float8Recipe) -> None:
    """Replaces the linear layers inside of a model's repeated layers, in place. Call this function before the model is
    sharded. A second call changes nothing.

    Linear layers with a size that is not a multiple of 16 are left as they are. Of linear layers with adapters, the
    product with the frozen weight is computed in fp8, and those of the adapter are not.
    """
    for layer in layers(model):
        if hasattr(layer, "fused"):  # the hand-written code for CPUs does not call the linear layers
            layer.fused = False  # pyright: ignore[reportArgumentType]
        for module in list(layer.modules()):
            for name, linear in list(module.named_children()):
                if not isinstance(linear, nn.Linear) or isinstance(module, LoraLinear):
                    continue
                if linear.in_features % MULTIPLE or linear.out_features % MULTIPLE:
                    continue
                if isinstance(linear, LoraLinear):
                    linear.float8 = recipe
                elif not isinstance(linear, Float8Linear):
                    setattr(module, name, Float8Linear(linear, recipe))


def missing_for_float8(device: torch.device) -> str | None:
    """Returns what a device lacks for fp8, or None."""
    wanted = "an NVIDIA GPU of compute capability {}.{} or higher".format(*CAPABILITY)
    if device.type != "cuda":
        return f"needs {wanted}, and this machine has no GPU"
    if torch.version.hip is not None:
        return f"needs {wanted}, and this machine has an AMD GPU"
    found = torch.cuda.get_device_capability(device)
    return None if found >= CAPABILITY else f"needs {wanted}, and this GPU has {found[0]}.{found[1]}"
