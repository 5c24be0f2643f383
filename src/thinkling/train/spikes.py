"""Decides which steps are spikes, whose update is not applied.

The decision depends only on the sums of the step over all ranks and on earlier steps. Earlier steps are part of the
checkpoint, so a resumed run skips the same steps as an uninterrupted run.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from thinkling.errors import UserError
from thinkling.train.config import SpikesConfig

GUARD = "guard."
"""Prefix of the guard's tensors in a training state."""


class SpikeGuard:
    """The recent steps of a run, and the limits that follow from them."""

    def __init__(self, config: SpikesConfig) -> None:
        self.config = config
        self._recent = torch.full((2, config.window), math.nan, dtype=torch.float64)
        """Gradient norms and losses of the last steps that were not spikes, oldest first. NaN: no step yet."""
        self._skipped = torch.zeros(2, dtype=torch.int64)
        """Number of skipped steps in a row until now, and in total."""

    @property
    def n_skipped(self) -> int:
        """Number of skipped steps since the start of training."""
        return int(self._skipped[1])

    def limits(self) -> tuple[float, float]:
        """Return the largest gradient norm and the largest loss that are not a spike."""
        if self._recent[0, 0].isnan():
            return math.inf, math.inf
        norm, loss = self._recent.median(dim=1).values.tolist()
        factors = (self.config.factor, self.config.loss_factor)
        # Steps cannot be compared with a median of 0.
        found = [math.inf if f is None or x <= 0 else f * x for f, x in zip(factors, (norm, loss), strict=True)]
        return found[0], found[1]

    def accept(self, norm: float, loss: float) -> None:
        """Record a step that was not a spike."""
        self._recent[:, :-1] = self._recent[:, 1:].clone()
        self._recent[:, -1] = torch.tensor([norm, loss], dtype=torch.float64)
        self._skipped[0] = 0

    def refuse(self, norm: float, loss: float) -> None:
        """Record a step that was a spike. Raises UserError if training must end."""
        if self.config.action == "stop" or self._skipped[0] == self.config.limit:
            raise UserError(self._reason(norm, loss))
        self._skipped += 1

    def pass_over(self) -> None:
        """Record a step whose batch is skipped because it led to a spike."""
        self._skipped[1] += 1

    def _reason(self, norm: float, loss: float) -> str:
        most = self.limits()
        found = f"loss {loss:.4g} (limit {most[1]:.4g}), gradient norm {norm:.4g} (limit {most[0]:.4g})"
        if self.config.action == "stop":
            return f"spikes: a spike in training, {found}; lower the optimizer's lr; the last checkpoint is intact"
        return (
            f"spikes.limit: {self.config.limit + 1} steps in a row are spikes, the last one with {found}; lower the "
            "optimizer's lr, or raise spikes.factor if the run is healthy; the last checkpoint is intact"
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state itself rather than copies."""
        return {GUARD + "recent": self._recent, GUARD + "skipped": self._skipped}
