"""Piecewise learning rate schedules. The rate is a pure function of the step, so a resumed run has the same rates as an
uninterrupted run."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DecayShape = Literal["linear", "cosine", "sqrt"]
"""Shape of a transition between two learning rates. To add a shape, add its name here and its curve below."""
_CURVES: dict[DecayShape, Callable[[float], float]] = {
    "linear": lambda t: t,
    "cosine": lambda t: (1.0 - math.cos(math.pi * t)) / 2.0,
    "sqrt": math.sqrt,
}
"""Functions that return the completed fraction of the change after a fraction t of the steps: 0 → 0, 1 → 1. `cosine` is
half a wave; `sqrt` is WSD's "1-sqrt" cooldown (Hägele et al. 2024, arXiv 2405.18392)."""
Shape = Literal["constant", DecayShape]


class Segment(BaseModel):
    """A part of a schedule, in which the learning rate changes from `lr_start` to `lr_end` over `steps` steps.
    `lr_start` and `lr_end` are equal for `constant`.

    The learning rate of step s of n is evaluated at the middle of the step, t = (s + 1/2) / n, so that no step of a
    warm-up from 0 or a decay to 0 has a learning rate of 0, and adjacent segments join without a jump.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    lr_start: float = Field(ge=0.0)
    lr_end: float = Field(ge=0.0)
    shape: Shape = "linear"

    @model_validator(mode="after")
    def _constant_is_flat(self) -> Segment:
        if self.shape == "constant" and self.lr_start != self.lr_end:
            raise ValueError(
                f"lr_start {self.lr_start} and lr_end {self.lr_end} differ; they must be equal in a constant segment"
            )
        return self

    def at(self, step: int) -> float:
        """Learning rate at a step of the segment, 0 … steps-1."""
        if self.shape == "constant" or self.lr_start == self.lr_end:
            return self.lr_start
        t = _CURVES[self.shape]((step + 0.5) / self.steps)
        # Even in floating point, this weighted sum is between lr_start and lr_end.
        return (1.0 - t) * self.lr_start + t * self.lr_end


class Schedule:
    """Learning rate at every step of a stage: `Schedule(segments)(step)`, with steps counted from 0.

    Raises IndexError for a step outside the segments, because a run must not be longer than its schedule.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self._starts = [0, *itertools.accumulate(segment.steps for segment in self.segments)]

    @property
    def total_steps(self) -> int:
        return self._starts[-1]

    def __call__(self, step: int) -> float:
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} is outside the schedule's {self.total_steps} steps")
        index = bisect.bisect_right(self._starts, step) - 1
        return self.segments[index].at(step - self._starts[index])


def warmup_stable_decay(
    total_steps: int,
    peak: float,
    warmup_steps: int = 0,
    decay_fraction: float = 0.0,
    final_fraction: float = 0.0,
    shape: DecayShape = "linear",
) -> Schedule:
    """Return a schedule with a linear warm-up from 0, a constant learning rate of `peak`, and a decay to
    `final_fraction` · `peak` over the last `decay_fraction` of the steps.

    The decay is rounded to whole steps; empty segments are omitted. If a run is too short for the warm-up and the
    decay, the warm-up takes precedence and the decay uses the remaining steps.
    """
    warmup = min(warmup_steps, total_steps)
    decay = min(round(total_steps * decay_fraction), total_steps - warmup)
    parts: list[tuple[int, float, float, Shape]] = [
        (warmup, 0.0, peak, "linear"),
        (total_steps - warmup - decay, peak, peak, "constant"),
        (decay, peak, peak * final_fraction, shape),
    ]
    return Schedule([Segment(steps=n, lr_start=a, lr_end=b, shape=s) for n, a, b, s in parts if n > 0])
