"""Returns to the last checkpoint after a spike, and skips the batches from there to the spike.

The skipped steps are stored in the stage's directory before training continues. Returning to a checkpoint is then the
same as resuming a killed run: everything depends only on the checkpoint, the stored steps and the number of the step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thinkling.data.artifact import hash_of, write_json
from thinkling.data.seals import lost
from thinkling.errors import UserError
from thinkling.stages.training.evaluation import ROLLOUTS
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.config import SpikesConfig
from thinkling.train.parallel import Parallel

FILE = "rolled_back.json"
"""File with the [checkpoint, spike] of every return to a checkpoint: the number of steps done at the checkpoint, which
is the first skipped step, and the step of the spike, which is the last skipped step."""


class Spike(Exception):
    """Raised by `RollBack` at a spike, to end `fit` before the step is logged."""

    def __init__(self, step: int, metrics: StepMetrics) -> None:
        super().__init__(f"step {step}")
        self.step, self.metrics = step, metrics


class RollBack(Callback):
    """The returns to checkpoints of a stage. As a callback, it raises `Spike` on all ranks."""

    def __init__(
        self, directory: Path, spikes: SpikesConfig, first_step: int, checkpoint_every: int, parallel: Parallel
    ) -> None:
        """`directory`: the stage's directory. `first_step`: the first step of the stage."""
        self.directory, self.spikes, self.first_step, self.every = directory, spikes, first_step, checkpoint_every
        self.parallel = parallel
        self.ranges = _read(directory)

    def without_skipped(self, batches: Callable[[int], Sequence[Any] | None]) -> Callable[[int], Sequence[Any] | None]:
        """Returns `batches`, without the batches of the skipped steps."""

        def found(step: int) -> Sequence[Any] | None:
            return None if any(first <= step <= last for first, last in self.ranges) else batches(step)

        return found

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        # A spike before the first checkpoint is only skipped. A step without a batch was skipped earlier.
        if metrics.skipped and metrics.n_tokens and self._checkpoint(step) > self.first_step:
            raise Spike(step, metrics)

    def _checkpoint(self, step: int) -> int:
        """Number of steps done at the last checkpoint before a step."""
        return step // self.every * self.every

    def add(self, spike: Spike) -> str:
        """Stores the steps to skip after a spike, and returns a message. Must be called on all ranks.

        Raises UserError if training has returned to this checkpoint too often.
        """
        done = self._checkpoint(spike.step)
        found = f"loss {spike.metrics.loss:.4g}, gradient norm {spike.metrics.grad_norm:.4g}"
        if sum(first == done for first, _ in self.ranges) == self.spikes.limit:
            raise UserError(
                f"spikes.limit: step {spike.step} is a spike ({found}), after training has returned "
                f"{self.spikes.limit} times to the checkpoint of step {done}; lower the optimizer's lr, or raise "
                "spikes.factor if the run is healthy; the checkpoint is intact"
            )
        self.ranges = [*self.ranges, (done, spike.step)]
        self.parallel.barrier()
        if self.parallel.rank == 0:
            # Evaluations after the checkpoint are repeated with other weights, so their samples cannot be reused.
            for samples in (self.directory / ROLLOUTS).glob("[0-9]*"):
                if int(samples.name) > done:
                    shutil.rmtree(samples)
            ranges = [list(found) for found in self.ranges]
            write_json(self.directory / FILE, {"ranges": ranges, "digest": hash_of(ranges)})
        self.parallel.barrier()
        return (
            f"step {spike.step} is a spike ({found}); training returns to the checkpoint of step {done} and skips the "
            f"batches of steps {done} to {spike.step}"
        )


def _read(directory: Path) -> list[tuple[int, int]]:
    path = directory / FILE
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        intact = found["digest"] == hash_of(found["ranges"])
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise lost(f"{path} is corrupt", directory)
    return [(first, last) for first, last in found["ranges"]]
