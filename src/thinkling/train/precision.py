"""Compute and storage dtypes of a model: low-precision copies for the forward pass, and AdamW on bf16 weights.

A bf16 number has 8 significant bits, so neighbouring numbers are 0.4 to 0.8% apart. At a learning rate of 1e-6, an
update is a thousandth of that distance, and rounding to nearest would lose nearly all updates. Therefore, either the
weights are in fp32 and only their copies are in bf16, or the optimizer randomly rounds every bf16 number that it writes
up or down, so that the numbers are correct on average.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from thinkling.seeds import derive
from thinkling.train.config import Dtype
from thinkling.train.offload import HostState
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


def round_stochastically(x: Tensor, noise: Tensor) -> Tensor:
    """Round fp32 to one of the two neighbouring bf16 numbers, drawn so that the mean is x.

    `noise`: int32, uniform in 0 to 2¹⁶ - 1. Numbers that bf16 can represent are unchanged, including infinities and
    NaN. Above the largest finite bf16 number, the upper neighbour is infinity, as in rounding to nearest.
    """
    # Floats interpreted as integers are ordered by magnitude, so a carry out of the dropped bits results in the next
    # bf16 number.
    rounded = ((x.view(torch.int32) + noise) & -_DROPPED).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x).to(torch.bfloat16)


def random_bits(n: int, seed: Tensor, first: Tensor | None = None) -> Tensor:
    """Return n random int32 numbers of 32 bits each, which depend only on their index and the seed (int32, scalar).
    `first`: index of the first number (int32, scalar), 0 by default.

    The mixing function is Chris Wellons's lowbias32 (https://nullprogram.com/blog/2018/07/31/). Unlike a generator, it
    can be part of a compiled kernel.
    """
    index = torch.arange(n, dtype=torch.int32, device=seed.device)
    return _mixed((index if first is None else index + first) * -1640531527 ^ seed)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 16)) * 2146121005
    x = (x ^ _shifted(x, 15)) * -2073254261
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with zeros; torch's shift of int32 fills with the sign."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW on bf16 parameters with bf16 moments, which takes 6 bytes per parameter. Each update is computed in fp32
    and rounded stochastically.

    The random numbers of an update depend on the seed, the number of the shard (`rank`) and the index of the update.
    The index is part of the state, so a resumed run draws the same numbers. Copies of a shard stay equal.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        *,
        betas: tuple[float, float],
        eps: float,
        seed: int,
        rank: int,
        host: HostState | None = None,
    ) -> None:
        """`host`: where the moments are, if not on the device."""
        super().__init__([dict(group) for group in groups], {"lr": 0.0})
        self.betas, self.eps, self.seed, self.rank, self.host = betas, eps, seed, rank, host
        zeros_like = torch.zeros_like if host is None else host.zeros_like
        for p in self._parameters():
            self.state[p] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": zeros_like(p),
                "exp_avg_sq": zeros_like(p),
            }

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def apply(
        self, gradients: Mapping[nn.Parameter, Tensor], scale: float | Tensor, usable: Tensor | None = None
    ) -> None:
        """Apply one update, with this rank's parts of the gradients multiplied by `scale`, unless `usable` is false.

        `scale` and `usable` may be scalar tensors on the device of the gradients, so that the host need not wait for
        them.
        """
        if not gradients:
            return
        done = int(max(self.state[p]["step"] for p in self._parameters()))
        generator = torch.Generator().manual_seed(derive(self.seed, "rounding", done, self.rank))
        device = next(iter(gradients.values())).device
        seeds = torch.randint(-(2**31), 2**31, (len(self._parameters()),), dtype=torch.int32, generator=generator)
        seed_of = dict(zip(self._parameters(), seeds.to(device).unbind(), strict=True))
        usable = torch.ones((), device=device) if usable is None else usable
        given = torch.stack([torch.as_tensor(x, dtype=torch.float32, device=device) for x in (scale, usable)])
        numbers_of: dict[nn.Parameter, Tensor] = {}
        for group in self.param_groups:
            numbers: dict[float, Tensor] = {}
            for p in group["params"]:
                if p in gradients:
                    self.state[p]["step"] += 1
                    step = float(self.state[p]["step"])
                    if step not in numbers:
                        numbers[step] = torch.cat((self._numbers(step, group, device), given))
                    numbers_of[p] = numbers[step]
        if self.host is None:
            for p, found in numbers_of.items():
                tensors = shards([p.detach(), self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"]])
                self._update([*tensors, gradients[p]], found, seed_of[p])
            return
        for part in self.host.stream({p: self.state[p] for p in numbers_of}):
            for piece in part:
                # Copying a number to the device would wait for it, and filling a tensor does not.
                p, first = piece.parameter, torch.full((), piece.elements.start, dtype=torch.int32, device=device)
                (weight,) = shards([p.detach()])
                tensors = [piece.of(weight), piece.mean, piece.square, piece.of(gradients[p])]
                self._update(tensors, numbers_of[p], seed_of[p], first)

    def _numbers(self, step: float, group: Mapping[str, Any], device: torch.device) -> Tensor:
        """Return the first three `numbers` of `update_in_place`."""
        (beta1, beta2), lr = self.betas, group["lr"]
        found = (lr / (1 - beta1**step), 1 - lr * group["weight_decay"], math.sqrt(1 - beta2**step))
        return torch.tensor(found, dtype=torch.float32).to(device)

    def undo_step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take back the count of an update that was not usable."""
        for p in parameters:
            self.state[p]["step"] -= 1

    def _update(self, tensors: Sequence[Tensor], numbers: Tensor, seed: Tensor, first: Tensor | None = None) -> None:
        """`tensors`: weights, both moments and gradients of the same elements."""
        weight, mean, square, gradient = (_rows(x) for x in tensors)
        update = _compiled_update() if gradient.is_cuda else update_in_place
        update(weight, mean, square, gradient, numbers, seed, (*self.betas, self.eps), first)


def _rows(x: Tensor) -> Tensor:
    """A view of x as a matrix with rows of 256 elements, so that compiled kernels load aligned vectors, or of 1."""
    return x.view(-1, 256 if x.numel() % 256 == 0 else 1)


def update_in_place(
    weight: Tensor,
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    numbers: Tensor,
    seed: Tensor,
    settings: tuple[float, float, float],
    first: Tensor | None = None,
) -> None:
    """AdamW's update of a weight and its moments, which are bf16 and are rounded stochastically. `numbers`: fp32,
    [lr / (1 - beta1^step), 1 - lr · weight decay, √(1 - beta2^step), factor of the gradient, 0 to change nothing].
    `settings`: beta1, beta2 and epsilon. `first`: index of the first element in its parameter, if it is not 0."""
    rate, decay, correction, scale, usable = numbers.unbind()
    beta1, beta2, eps = settings
    g = gradient.float() * scale
    m = torch.lerp(mean.float(), g, 1 - beta1)
    v = square.float() * beta2 + g * g * (1 - beta2)
    w = weight.float() * decay - rate * m / (v.sqrt() / correction + eps)
    bits = random_bits(weight.numel(), seed, first).view_as(weight)
    more = _mixed(bits ^ 1013904242)
    weight.copy_(torch.where(usable > 0, round_stochastically(w, bits & (_DROPPED - 1)), weight))
    mean.copy_(torch.where(usable > 0, round_stochastically(m, _shifted(bits, 16)), mean))
    square.copy_(torch.where(usable > 0, round_stochastically(v, more & (_DROPPED - 1)), square))


@cache
def _compiled_update() -> Any:
    return torch.compile(update_in_place)


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of all elements, summed in fp32 for any dtype of the tensors."""
    return torch.stack([torch.linalg.vector_norm(x, dtype=torch.float32) for x in tensors]).norm()
