"""Assigns a source to each row, and builds the batches of a run.

Rows are assigned to sources by Tijdeman's chairman assignment: after every row, the number of rows of each source is
within one row of its share. The rows of a global step, their order and their content are a pure
function of (seed, step). Ranks, micro-batches, workers and restarts only determine which process computes which rows.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypedDict

import numpy as np

from thinkling.data.best_fit import BestFitRows
from thinkling.data.packing import START, Cursor, DocumentSource, PackedBatch, SourceRows, pack_rows
from thinkling.errors import UserError


def assign(weights: Sequence[float | Fraction], n_rows: int) -> np.ndarray:
    """Returns the source of each row, int16 (n_rows,).

    For all n and all sources i, |(rows of i among the first n) − n·weight_i| ≤ 1 − 1/(2k − 2), where k is the number of
    sources with a positive weight and the weights are scaled to sum to 1 (R. Tijdeman, The chairman assignment problem,
    Discrete Math. 32, 1980). With δ = 1/(2k − 2), the bound holds if and only if the j-th row of source i is assigned
    no earlier than step ⌈(j − 1 + δ)/weight_i⌉ and no later than step ⌊(j − δ)/weight_i⌋ + 1. Tijdeman proves that a
    schedule within these windows exists, so scheduling by earliest deadline first finds one. The computation uses exact
    integer arithmetic. It takes O(n log k) time, about 2 µs per row.
    """
    exact = _as_fractions(weights)
    used = [i for i, weight in enumerate(exact) if weight > 0]
    if len(used) == 1:
        return np.full(n_rows, used[0], dtype=np.int16)
    scale = 2 * len(used) - 2  # 1/δ
    total = sum(exact, start=Fraction(0))
    # up[i] / down[i] is the number of steps in which the share of source i grows by δ rows.
    steps = {i: total / exact[i] / scale for i in used}
    up, down = {i: steps[i].numerator for i in used}, {i: steps[i].denominator for i in used}
    waiting = [(_ceil(up[i], down[i]), i, 1) for i in used]  # (release, source, j)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []  # (deadline, source, j)
    rows = np.empty(n_rows, dtype=np.int16)
    for step in range(1, n_rows + 1):
        while waiting and waiting[0][0] <= step:
            _, i, j = heapq.heappop(waiting)
            heapq.heappush(ready, ((j * scale - 1) * up[i] // down[i] + 1, i, j))
        _, i, j = heapq.heappop(ready)
        rows[step - 1] = i
        heapq.heappush(waiting, (_ceil((j * scale + 1) * up[i], down[i]), i, j + 1))
    return rows


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _as_fractions(weights: Sequence[float | Fraction]) -> list[Fraction]:
    if not all(np.isfinite(float(weight)) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(
            f"mixture: weights are {list(map(float, weights))}; they must be finite, not negative and not all zero"
        )
    return [Fraction(weight) for weight in weights]


@dataclass(frozen=True)
class MixturePhase:
    """A phase of training with a fixed mixture and row length."""

    n_rows: int
    """Total number of rows of all sources, which must be a multiple of the rows per step."""
    sequence_length: int
    """Number of tokens per row."""
    weights: Mapping[str, float]
    """Source → its share of the rows. The weights are scaled to sum to 1."""
    batch_size: int | None = None
    """Number of rows per step over all ranks; if None, the loader's batch size. A phase with longer rows uses fewer
    rows to keep the number of tokens per step."""
    best_fit: bool = False
    """Whether documents are packed by best fit (`best_fit`) instead of in the order of the stream. A phase that is not
    cannot follow a phase that is, because best fit leaves pieces of documents behind."""


class Usage(TypedDict):
    """The contribution of a source to a run or phase."""

    rows: int
    tokens: int
    """Number of tokens without padding."""
    padding: int
    epochs: float
    """Number of passes over the source's documents."""


class _Taken(NamedTuple):
    """Usage with exact epochs, so that the usage of phases can be added without rounding errors."""

    rows: int
    tokens: int
    padding: int
    epochs: Fraction


class _PhaseTable:
    """The source of each row of a phase, and the index of the row among the rows of its source."""

    def __init__(self, phase: MixturePhase, sources: Sequence[SourceRows | BestFitRows]) -> None:
        self.sources = sources
        self.source = assign(list(phase.weights.values()), phase.n_rows)
        self.index = np.empty(phase.n_rows, dtype=np.int64)
        self.counts = np.bincount(self.source, minlength=len(sources))
        for i, count in enumerate(self.counts):
            self.index[self.source == i] = np.arange(count)


class MixtureLoader:
    """The batches of a run with several phases.

    Rank r of W receives the r-th of W equal slices of the rows of a step, split into micro-batches. The concatenated
    batches of all ranks are thus the same rows in the same order for every W. An instance is also a map-style dataset
    for torch's DataLoader (`batch_size=None`). Raises UserError if phases, sources and ranks are inconsistent.
    """

    def __init__(
        self,
        phases: Sequence[MixturePhase],
        sources: Mapping[str, DocumentSource],
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        micro_batch_size: int | None = None,
        pad_id: int = 0,
    ) -> None:
        self.phases = list(phases)
        self._sources = dict(sources)
        self._seed = seed
        self._rank, self._world_size, self._pad_id = rank, world_size, pad_id
        self._batch_size = [phase.batch_size or batch_size for phase in self.phases]
        self._micro_batch_size = [micro_batch_size or rows for rows in self._batch_size]
        for number, (phase, rows) in enumerate(zip(self.phases, self._batch_size, strict=True)):
            self._check(number, phase, rows)
        steps = [phase.n_rows // rows for phase, rows in zip(self.phases, self._batch_size, strict=True)]
        self._first_steps = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
        self._tables: dict[int, _PhaseTable] = {}
        self._cursors: list[dict[str, Cursor]] = [{}]
        self._usage: list[dict[str, _Taken]] = []
        self._lock = threading.RLock()

    @property
    def n_steps(self) -> int:
        return int(self._first_steps[-1])

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, step: int) -> list[PackedBatch]:
        return self.batches(step)

    def phase_of(self, step: int) -> int:
        """Returns the index of a step's phase. Raises IndexError beyond the last step."""
        if not 0 <= step < self.n_steps:
            raise IndexError(f"step {step} of {self.n_steps}")
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def batches(self, step: int) -> list[PackedBatch]:
        """Returns this rank's micro-batches of a global step."""
        number = self.phase_of(step)
        table = self._table(number)
        rows = self._batch_size[number]
        mine = rows // self._world_size
        first = (step - int(self._first_steps[number])) * rows + self._rank * mine
        return [
            self._pack(table, number, slice(start, min(start + self._micro_batch_size[number], first + mine)))
            for start in range(first, first + mine, self._micro_batch_size[number])
        ]

    def rows_by_source(self, step: int) -> dict[str, int]:
        """Returns the number of rows that each source of the phase contributes to a global step, over all ranks."""
        number = self.phase_of(step)
        table, rows = self._table(number), self._batch_size[number]
        first = (step - int(self._first_steps[number])) * rows
        counts = np.bincount(table.source[first : first + rows], minlength=len(table.sources))
        return dict(zip(self.phases[number].weights, counts.tolist(), strict=True))

    def usage(self, phase: int | None = None) -> dict[str, Usage]:
        """Returns the contribution of each source to the run, or to one phase.

        The contributions are computed from document lengths, without reading tokens.
        """
        with self._lock:
            for number in range(len(self._usage), len(self.phases)):
                self._finish(number)
            parts = self._usage if phase is None else [self._usage[phase]]
            names = [name for name in self._sources if any(name in part for part in parts)]
            return {name: _sum([part[name] for part in parts if name in part]) for name in names}

    def _check(self, number: int, phase: MixturePhase, batch_size: int) -> None:
        where = f"phase {number + 1}"
        for name in phase.weights:
            if name not in self._sources:
                listed = ", ".join(sorted(self._sources))
                raise UserError(f"{where}: unknown source {name!r} in the mixture; the sources are {listed}")
        _as_fractions(list(phase.weights.values()))
        if phase.sequence_length < 2:
            raise UserError(f"{where}: sequence_length is {phase.sequence_length}; it must be at least 2")
        if phase.n_rows % batch_size:
            raise UserError(
                f"{where}: the number of rows, {phase.n_rows}, is not a multiple of the {batch_size} rows per step; "
                "change one of them"
            )
        if batch_size % self._world_size:
            raise UserError(
                f"{where}: the {batch_size} rows per step cannot be divided evenly among {self._world_size} processes; "
                "change the batch size or the number of processes"
            )

    def _pack(self, table: _PhaseTable, number: int, rows: slice) -> PackedBatch:
        chosen = [(table.sources[i], int(k)) for i, k in zip(table.source[rows], table.index[rows], strict=True)]
        pieces = [(source.source, source.row(k)) for source, k in chosen]
        return pack_rows(pieces, self.phases[number].sequence_length, self._pad_id)

    def _table(self, number: int) -> _PhaseTable:
        with self._lock:
            if number not in self._tables:
                for earlier in range(len(self._usage), number):
                    self._finish(earlier)
                # Keep the tables of adjacent phases, because a prefetcher uses both phases at a phase boundary.
                near = {n: table for n, table in self._tables.items() if abs(n - number) == 1}
                self._tables = near | {number: self._build(number)}
            return self._tables[number]

    def _build(self, number: int) -> _PhaseTable:
        """Returns the table of a phase. Each source continues where the preceding phases, which must be finished,
        stopped."""
        phase, cursors = self.phases[number], self._cursors[number]
        packed = BestFitRows if phase.best_fit else SourceRows
        rows = [
            packed(self._sources[name], self._seed, phase.sequence_length, cursors.get(name, START))
            for name in phase.weights
        ]
        return _PhaseTable(phase, rows)

    def _finish(self, number: int) -> None:
        """Records the cursors of the sources at the end of a phase, and the phase's usage of each source."""
        table = self._tables.get(number) or self._build(number)
        cursors, usage = dict(self._cursors[number]), {}
        for name, source, count in zip(self.phases[number].weights, table.sources, table.counts.tolist(), strict=True):
            first, last, tokens = source.cursor_after(0), source.cursor_after(count), source.tokens(count)
            cursors[name] = last
            usage[name] = _Taken(
                rows=count,
                tokens=tokens,
                padding=count * source.sequence_length - tokens,
                epochs=source.epochs.passed(last) - source.epochs.passed(first),
            )
        self._cursors.append(cursors)
        self._usage.append(usage)


def _sum(parts: list[_Taken]) -> Usage:
    return Usage(
        rows=sum(part.rows for part in parts),
        tokens=sum(part.tokens for part in parts),
        padding=sum(part.padding for part in parts),
        epochs=float(sum((part.epochs for part in parts), start=Fraction(0))),
    )


def waste(used: Usage) -> float:
    """Returns the fraction of padding in the rows of a source, rounded to 6 digits."""
    return round(used["padding"] / max(used["tokens"] + used["padding"], 1), 6)


def check_epochs(usage: Mapping[str, Usage], limits: Mapping[str, float]) -> None:
    """Raises UserError for the first source that is repeated beyond its limit.

    A source without a limit may be repeated without bound.
    """
    for name, used in usage.items():
        limit = limits.get(name)
        if limit is not None and used["epochs"] > limit:
            raise UserError(
                f"source {name!r}: the run needs {used['epochs']:.4g} epochs of the source's documents, more than "
                f"max_epochs {limit:g}; lower the source's weight, shorten the phases that use the source, or raise "
                "max_epochs"
            )
