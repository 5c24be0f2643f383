"""Phase arithmetic: steps, rows, fractions, epochs and learning rate, independent of model and data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thinkling.errors import UserError
from thinkling.stages.pretrain.config import Packing, PhaseConfig, PretrainConfig
from thinkling.train.schedule import Schedule, Segment, Shape


@dataclass(frozen=True)
class Phase:
    """A fully resolved phase, which covers steps `first_step … first_step + steps − 1`."""

    name: str
    first_step: int
    steps: int
    sequence_length: int
    batch_size: int
    rope_theta: float
    lr_first: float
    lr_last: float
    shape: Shape
    fractions: dict[str, float]
    """Source → fraction of the rows. The fractions sum to 1."""
    decay: bool
    packing: Packing = "sequential"

    @property
    def end(self) -> int:
        """The first step after the phase."""
        return self.first_step + self.steps

    @property
    def mixture(self) -> dict[str, float]:
        return self.fractions

    @property
    def batch_tokens(self) -> int:
        """Number of tokens per step, including padding."""
        return self.batch_size * self.sequence_length

    @property
    def rows(self) -> int:
        return self.steps * self.batch_size

    @property
    def tokens(self) -> int:
        """Number of tokens in all steps, including padding."""
        return self.rows * self.sequence_length

    def facts(self) -> dict[str, Any]:
        """Returns the arguments with which the phase can be made again, without a default `packing`."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("packing", "sequential")}


def schedule(phases: Sequence[Phase]) -> Schedule:
    """Returns the learning rate schedule of all phases."""
    return Schedule(
        [
            Segment(
                steps=phase.steps,
                lr_start=phase.lr_first,
                lr_end=phase.lr_last,
                shape="constant" if phase.lr_first == phase.lr_last else phase.shape,
            )
            for phase in phases
        ]
    )


def resolve(config: PretrainConfig, rope_theta: float, first_step: int = 0) -> list[Phase]:
    """Fills in the values that a phase inherits from the previous phase, and rounds tokens to whole steps (at least
    one).

    `rope_theta` and `first_step` define the starting point of the stage: the model's RoPE base, and either 0 or the
    step at which the stored state ends.
    """
    phases: list[Phase] = []
    length, theta, step = config.sequence_length, rope_theta, first_step
    batch_tokens = config.batch_tokens
    for phase in config.phases:
        length, theta = phase.sequence_length or length, phase.rope_theta or theta
        batch_tokens = phase.batch_tokens or batch_tokens
        steps = max(1, round(phase.tokens / batch_tokens))
        total = math.fsum(phase.mixture.values())
        phases.append(
            Phase(
                name=phase.name,
                first_step=step,
                steps=steps,
                sequence_length=length,
                batch_size=batch_tokens // length,
                rope_theta=theta,
                lr_first=phase.lr_first,
                lr_last=phase.lr_last,
                shape=phase.shape,
                fractions={name: weight / total for name, weight in phase.mixture.items()},
                decay=phase.decay,
                packing=config.packing,
            )
        )
        step += steps
    return phases


def averaged(phases: Sequence[Phase], every: int) -> Callable[[int], bool]:
    """Returns whether the weights after a step are averaged: every `every` steps from the start of the decay, counted
    back from the last step."""
    first = min(phase.first_step for phase in phases if phase.decay)
    last = phases[-1].end - 1
    return lambda step: first <= step <= last and (last - step) % every == 0


def phase_of(phases: Sequence[Phase], step: int) -> Phase:
    """Returns the phase that contains a step."""
    for phase in phases:
        if step < phase.end:
            return phase
    raise IndexError(f"step {step} is after the last phase")


def check_order(phases: Sequence[PhaseConfig | Phase]) -> None:
    """Checks the FG-WSD rule: learning rate and mixture never change at the same step, except at the start of the
    decay.

    The learning rate counts as changed if it jumps between two phases, or if it is constant in one of the two phases
    and has a slope in the other. The end of warm-up, at which the slope meets the plateau, therefore counts as a
    change.

    Raises UserError with the phase's name if the rule is violated.
    """
    for before, after in itertools.pairwise(phases):
        mixture_moves = _normalised(before.mixture) != _normalised(after.mixture)
        rate_moves = before.lr_last != after.lr_first or (before.lr_first == before.lr_last) != (
            after.lr_first == after.lr_last
        )
        if mixture_moves and rate_moves and not after.decay:
            raise UserError(
                f"phases.{after.name}: mixture and learning rate change at the same step, which FG-WSD forbids; move "
                "one of the changes to a separate phase, or set `decay: true` in the phase in which the decay starts"
            )


def _normalised(mixture: dict[str, float]) -> dict[str, float]:
    total = math.fsum(mixture.values())
    return {name: round(weight / total, 12) for name, weight in sorted(mixture.items())}


def epochs(phases: Sequence[Phase], sizes: dict[str, float]) -> list[dict[str, float]]:
    """Returns the number of passes over each source in each phase: the tokens drawn from the source divided by its size
    in tokens, ignoring padding."""
    return [
        {name: phase.tokens * fraction / sizes[name] for name, fraction in phase.fractions.items() if name in sizes}
        for phase in phases
    ]


def check_epochs(config: PretrainConfig, phases: Sequence[Phase], sizes: dict[str, float]) -> None:
    """Raises UserError if a mixture contains an unknown source, or if a source would be repeated beyond its limit."""
    for phase in phases:
        for name in phase.fractions:
            if name not in sizes:
                known = ", ".join(sorted(sizes)) or "none"
                raise UserError(f"phases.{phase.name}.mixture: unknown source {name!r}; the sources are {known}")
    total: dict[str, float] = dict.fromkeys(sizes, 0.0)
    for part in epochs(phases, sizes):
        for name, value in part.items():
            total[name] += value
    for name, value in total.items():
        limit = config.max_epochs.get(name, config.default_max_epochs)
        if value > limit:
            raise UserError(
                f"max_epochs: the documents of source {name!r} would be seen {value:.2f} times, but the limit is "
                f"{limit:g}; use more documents, lower the source's weight in the mixtures, or raise max_epochs.{name}"
            )
