"""Compute and storage dtypes of a model: low-precision copies for the forward pass, and AdamW on bf16 weights.

A bf16 number has 8 significant bits, so neighbouring numbers are 0.4 to 0.8% apart. At a learning rate of 1e-6, an
update is a thousandth of that distance, and rounding to nearest would lose nearly all updates. Therefore, either the
weights are in fp32 and only their copies are in bf16, or the optimizer randomly rounds every bf16 number that it writes
up or down, so that the numbers are correct on average.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thinkling.seeds import derive
from thinkling.train.config import Dtype
from thinkling.train.parallel import shards

DTYPES: Mapping[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_DROPPED = 1 << 16
"""2¹⁶, because an fp32 number is a bf16 number with 16 more bits of significand, which rounding drops."""


@contextlib.contextmanager
def computing(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Context in which a model's parameters are replaced by copies in `dtype`. Gradients flow to the original
    parameters.

    Copies exist as long as the graph that uses them. Parameters that are already in `dtype` are not copied. Sharded
    parameters are not copied either, because FSDP2 casts them when it gathers them (`Parallel.shard`).
    """
    from torch.distributed.tensor import DTensor

    swapped = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dtype != dtype and not isinstance(parameter, DTensor)
    ]
    slots: list[dict[str, Any]] = [module._parameters for module, _, _ in swapped]
    for slot, (_, name, parameter) in zip(slots, swapped, strict=True):
        slot[name] = parameter.to(dtype)
    try:
        yield
    finally:
        for slot, (_, name, parameter) in zip(slots, swapped, strict=True):
            slot[name] = parameter


def round_stochastically(x: Tensor, generator: torch.Generator) -> Tensor:
    """Round fp32 to one of the two neighbouring bf16 numbers, drawn so that the mean is x.

    Numbers that bf16 can represent are unchanged, including infinities and NaN. Above the largest finite bf16 number,
    the upper neighbour is infinity, as in rounding to nearest.
    """
    noise = torch.randint(_DROPPED, x.shape, dtype=torch.int32, device=x.device, generator=generator)
    # Floats interpreted as integers are ordered by magnitude, so a carry out of the dropped bits results in the next
    # bf16 number.
    rounded = noise.add_(x.view(torch.int32)).bitwise_and_(-_DROPPED).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x).to(torch.bfloat16)


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW on bf16 parameters with bf16 moments, which takes 6 bytes per parameter. Each update is computed in fp32
    and rounded stochastically.

    The random numbers of an update depend on the seed, the rank and the index of the update. The index is part of the
    state, so a resumed run draws the same numbers.
    """

    def __init__(
        self, groups: Sequence[Mapping[str, Any]], *, betas: tuple[float, float], eps: float, seed: int, rank: int
    ) -> None:
        super().__init__([dict(group) for group in groups], {"lr": 0.0})
        self.betas, self.eps, self.seed, self.rank = betas, eps, seed, rank
        for p in self._parameters():
            self.state[p] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def apply(self, gradients: Mapping[nn.Parameter, Tensor], scale: float) -> None:
        """Apply one update, with this rank's parts of the gradients multiplied by `scale`."""
        if not gradients:
            return
        done = int(max(self.state[p]["step"] for p in self._parameters()))
        device = next(iter(gradients.values())).device
        generator = torch.Generator(device).manual_seed(derive(self.seed, "rounding", done, self.rank))
        for group in self.param_groups:
            for p in group["params"]:
                if p in gradients:
                    self.state[p]["step"] += 1
                    self._update(p, gradients[p].float() * scale, group, generator)

    def _update(self, p: nn.Parameter, gradient: Tensor, group: Mapping[str, Any], generator: torch.Generator) -> None:
        state, (beta1, beta2), lr = self.state[p], self.betas, group["lr"]
        step = float(state["step"])
        kept = shards([p.detach(), state["exp_avg"], state["exp_avg_sq"]])
        weight, mean, square = (x.float() for x in kept)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        divisor = (square.sqrt() / math.sqrt(1 - beta2**step)).add_(self.eps)
        weight.mul_(1 - lr * group["weight_decay"]).addcdiv_(mean, divisor, value=-lr / (1 - beta1**step))
        for tensor, new in zip(kept, (weight, mean, square), strict=True):
            tensor.copy_(round_stochastically(new, generator))


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of all elements, summed in fp32 for any dtype of the tensors."""
    return torch.stack([torch.linalg.vector_norm(x, dtype=torch.float32) for x in tensors]).norm()
