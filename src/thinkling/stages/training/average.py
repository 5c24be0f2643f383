"""The averaged model of a training stage, which is exported instead of the model of the last step."""

from __future__ import annotations

from torch import nn

from thinkling.data.artifact import write_json
from thinkling.stages.base import StageContext
from thinkling.stages.training.callbacks import Validation
from thinkling.train.average import WeightAverage
from thinkling.train.parallel import Parallel

AVERAGE = "average.json"
"""File with the number of averaged weights, and the validation losses of the last step's model and of the average."""


def apply_average(
    average: WeightAverage, model: nn.Module, validation: Validation | None, ctx: StageContext, parallel: Parallel
) -> None:
    """Replaces the weights of the last step by the average, and writes `AVERAGE`. Must be called on all ranks."""
    last = validation.losses(model) if validation is not None else {}
    average.apply()
    mean = validation.losses(model) if validation is not None else {}
    if parallel.rank == 0:
        losses = {"last": last, "average": mean}
        write_json(ctx.directory / AVERAGE, {"weights": average.count, "validation": losses})
        change = ", ".join(f"{name} {last[name]:.4f} → {mean[name]:.4f}" for name in last)
        ctx.progress.note(
            f"{ctx.name}: exporting the average of {average.count} weights"
            + (f"; validation loss of the last step → of the average: {change}" if change else "")
        )
