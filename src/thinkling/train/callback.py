"""Hooks around the steps of `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one training step, over all its micro-batches and ranks."""

    loss: float
    """Mean loss per loss token."""
    grad_norm: float
    """2-norm of the gradient of `loss`, before clipping."""
    n_tokens: int
    """Number of loss tokens; 0 for a step without a batch, which does not update the model."""
    metrics: dict[str, float]
    """Sums of the objective's metrics, not divided by the number of tokens."""
    skipped: bool = False
    """Whether the step was a spike, so that it did not change the weights."""
    n_skipped: int | None = None
    """Number of spikes skipped until now, or None if spikes are not watched for."""


SKIPPED = StepMetrics(loss=0.0, grad_norm=0.0, n_tokens=0, metrics={})
"""Metrics of a step without a batch."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete checkpoint, and the time that it took."""

    steps: int
    """Number of steps done at the checkpoint."""
    path: Path
    blocked_seconds: float
    """How long training waited: for the previous checkpoint, for the copy of the state, and, unless the checkpoint was
    written in the background, for the write."""
    write_seconds: float
    """How long the write took."""


class Callback:
    """Base class of callbacks. Every method does nothing unless overridden, and is called on every rank. Steps are
    counted from 0."""

    def on_start(self, first_step: int) -> None:
        """Called once, before the first step of this process. If a killed run already did steps from `first_step` on,
        these steps are repeated."""

    def before_step(self, step: int) -> None:
        """Called before the step's batch is requested. A callback may change the model here, for example its RoPE base,
        as a function of the step."""

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        """Called after the update of a step. `lr` is 0 for a step without a batch."""

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Called after validation or evaluation at the end of a step, or before the first step (`step` is then 0).
        `losses` maps the name of a source to its mean loss per token in nats, or the name of a task set to its
        score."""

    def on_checkpoint(self, step: int, directory: Path) -> None:
        """Called at the end of a step whose state is stored. Files that a callback writes to `directory` become part of
        the checkpoint, which does not exist until it is complete; `directory` is then renamed."""

    def on_checkpoint_saved(self, saved: SavedCheckpoint) -> None:
        """Called when a checkpoint is complete. If checkpoints are written in the background, this may be after a later
        step, and after different steps on different ranks, so callbacks must not communicate here."""

    def on_end(self) -> None:
        """Called once when training ends, even if a step or another callback's `on_start` raised an exception."""
