"""The mean of the weights after certain steps, such as those of a decay.

The mean is part of the checkpoint, so a resumed run averages the same weights as an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.parallel import shards

AVERAGE = "average."
"""Prefix of the mean and its count in a training state."""


class WeightAverage(Callback):
    """Running mean of a model's weights, in fp32 for any dtype of the weights. Sharded weights have sharded means."""

    def __init__(self, model: nn.Module, due: Callable[[int], bool]) -> None:
        """`due`: whether the weights after the given step are part of the mean; a function of the step only."""
        self.due = due
        self._weights = dict(model.named_parameters())
        self._means = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self._weights.items()}
        self._count = torch.zeros((), dtype=torch.int64)

    @property
    def count(self) -> int:
        """Number of weights in the mean."""
        return int(self._count)

    @torch.no_grad()
    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        if not self.due(step):
            return
        self._count += 1
        weights = shards([p.detach() for p in self._weights.values()])
        for mean, weight in zip(shards(list(self._means.values())), weights, strict=True):
            mean.lerp_(weight.float(), 1.0 / self.count)

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the model's weights by their mean, in the dtype of the weights."""
        weights = shards([p.detach() for p in self._weights.values()])
        for mean, weight in zip(shards(list(self._means.values())), weights, strict=True):
            weight.copy_(mean)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state itself rather than copies."""
        return {AVERAGE + name: mean for name, mean in self._means.items()} | {AVERAGE + "count": self._count}
