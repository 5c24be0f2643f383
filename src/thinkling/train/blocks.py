"""How the repeated layers of a model run in training: recomputed in the backward pass, and compiled.

Layers are compiled one by one rather than as a whole model: all layers of a model share one compiled function, so
compiling takes seconds rather than minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from thinkling.train.config import Recompute
from thinkling.train.parallel import layers

Layer = Callable[..., Tensor]


def prepare_layers(model: nn.Module, recompute: Recompute = "none", compiled: bool = False) -> None:
    """Replace the forward pass of every layer, in place. Call this function before the model is sharded.

    The values that a layer computes change by rounding at most. `compiled` applies to layers on a GPU only, because a
    CPU has hand-written layers.
    """
    run = {"none": _plain, "selective": _selective, "full": _full}[recompute]
    if compiled and any(p.is_cuda for p in model.parameters()):
        run = _compiled(run)
    if run is not _plain:
        for layer in layers(model):
            layer.forward = partial(run, layer)


@cache
def _compiled(run: Layer) -> Layer:
    return torch.compile(run)


def _plain(layer: nn.Module, *args: Any) -> Tensor:
    return type(layer).forward(layer, *args)


def _full(layer: nn.Module, *args: Any) -> Tensor:
    return checkpoint(_plain, layer, *args, use_reentrant=False)


def _selective(layer: nn.Module, *args: Any) -> Tensor:
    return checkpoint(_plain, layer, *args, use_reentrant=False, context_fn=_keeping_attention)


def _keeping_attention() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(ctx: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _attention() else CheckpointPolicy.PREFER_RECOMPUTE


@cache
def _attention() -> frozenset[Any]:
    """The operations of torch that compute attention on a GPU."""
    from torch.nn.attention import varlen

    del varlen  # its import registers the operation
    names = ("cudnn", "flash", "efficient")
    whole_rows = [getattr(torch.ops.aten, f"_scaled_dot_product_{name}_attention").default for name in names]
    return frozenset([*whole_rows, torch.ops.torch_attn._varlen_attn.default])
