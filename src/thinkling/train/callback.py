"""Hooks around the steps of `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one step, over all its micro-batches and ranks."""

    loss: float
    """Mean loss per loss token."""
    grad_norm: float
    """2-norm of the gradient of `loss` before clipping."""
    n_tokens: int
    """Number of loss tokens; 0 for a step without a batch, which updates nothing."""
    metrics: dict[str, float]
    """The objective's metrics, summed, not divided."""


SKIPPED = StepMetrics(loss=0.0, grad_norm=0.0, n_tokens=0, metrics={})
"""Reported for a step without a batch."""


class Callback:
    """Base class: every method does nothing unless overridden. Steps count from 0. Called on every rank."""

    def on_start(self, first_step: int) -> None:
        """Once, before the first step of this process. Steps from `first_step` on that a killed run did are redone."""

    def before_step(self, step: int) -> None:
        """Before the step's batch is requested. May change the model, e.g. its RoPE base, as a function of the step."""

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        """After the update of a step. `lr` is 0 for a step without a batch."""

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """After validation or evaluation at the end of a step, or before the first one (then step 0). `losses` by name:
        a source's mean loss per token in nats, or a task set's score."""

    def on_checkpoint(self, step: int, path: Path) -> None:
        """After the state at the end of a step has been written to `path`."""

    def on_end(self) -> None:
        """Once, however training ends: also if a step or another callback's `on_start` raised."""
