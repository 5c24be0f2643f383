"""Piecewise learning rates: a pure function of the step, so that a resumed run cannot be at another place of it."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Shape = Literal["constant", "linear", "cosine", "sqrt"]


class Segment(BaseModel):
    """`steps` steps on the way from `lr_start` to `lr_end`.

    The rate of a segment's step s of n is taken at the middle of the step, t = (s + 1/2) / n: a warm-up from 0 wastes
    no step at 0, nor does a decay to 0, and segments that share an end meet without a jump.

    - `linear`: lr_start + (lr_end - lr_start) t
    - `cosine`: half a cosine wave
    - `sqrt`: lr_start + (lr_end - lr_start) sqrt(t), WSD's "1-sqrt" cooldown (Hägele et al. 2024, arXiv 2405.18392)
    - `constant`: lr_start, which must equal lr_end
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    lr_start: float = Field(ge=0.0)
    lr_end: float = Field(ge=0.0)
    shape: Shape = "linear"

    @model_validator(mode="after")
    def _constant_is_flat(self) -> Segment:
        if self.shape == "constant" and self.lr_start != self.lr_end:
            raise ValueError(f"a constant segment needs lr_start = lr_end, not {self.lr_start} and {self.lr_end}")
        return self

    def at(self, step: int) -> float:
        """Learning rate of the segment's step 0 … steps-1."""
        t = (step + 0.5) / self.steps
        if self.shape == "cosine":
            t = (1.0 - math.cos(math.pi * t)) / 2.0
        elif self.shape == "sqrt":
            t = math.sqrt(t)
        # The weighted sum stays within both ends in floating point too, and is exact where they are equal.
        return self.lr_start if self.lr_start == self.lr_end else (1.0 - t) * self.lr_start + t * self.lr_end


class Schedule:
    """Learning rate of every step of a stage: `Schedule(segments)(step)`, steps counted from 0.

    Raises IndexError for a step outside the segments: a run longer than its schedule is a mistake, not a constant tail.
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
    warmup_fraction: float,
    decay_fraction: float,
    end: float = 0.0,
    shape: Shape = "linear",
) -> Schedule:
    """Warm-up from 0 over the first share of the steps, constant at `peak`, decay to `end` over the last share.

    Shares are rounded to whole steps; a segment of no steps is left out. Raises ValueError if the shares exceed 1.
    """
    if warmup_fraction < 0 or decay_fraction < 0 or warmup_fraction + decay_fraction > 1:
        raise ValueError(f"warm-up and decay are shares of the steps, not {warmup_fraction} and {decay_fraction}")
    warmup = round(total_steps * warmup_fraction)
    decay = min(round(total_steps * decay_fraction), total_steps - warmup)
    stable = total_steps - warmup - decay
    parts: list[tuple[int, float, float, Shape]] = [
        (warmup, 0.0, peak, "linear"),
        (stable, peak, peak, "constant"),
        (decay, peak, end, shape),
    ]
    return Schedule([Segment(steps=n, lr_start=a, lr_end=b, shape=s) for n, a, b, s in parts if n > 0])
