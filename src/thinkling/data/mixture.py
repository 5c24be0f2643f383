"""Assigns a source to each row, and builds the batches of a run.

Rows are assigned to sources by Tijdeman's chairman assignment: at every step every source is within one row of its
share. The rows of a global step, their order and their content are a pure function of (seed, step). Ranks,
micro-batches, workers and restarts only determine who computes which of them.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypedDict

import numpy as np

from thinkling.data.packing import START, Cursor, DocumentSource, PackedBatch, SourceRows, pack_rows
from thinkling.errors import UserError


def assign(weights: Sequence[float | Fraction], n_rows: int) -> np.ndarray:
    """Source of each row, int16 (n_rows,): |rows of i among the first n − n·weight_i| ≤ 1 − 1/(2k − 2) for all n, i.

    k sources have a positive weight; weights are scaled to sum to 1. Earliest deadline first (R. Tijdeman, The chairman
    assignment problem, Discrete Math. 32, 1980). With δ = 1/(2k − 2), the bound holds if and only if the j-th row of
    source i is assigned no earlier than step ⌈(j − 1 + δ)/weight_i⌉ and no later than step ⌊(j − δ)/weight_i⌋ + 1.
    Tijdeman proves that a schedule within these windows exists; earliest deadline first then finds one. Exact integer
    arithmetic throughout. O(n log k), about 2 µs per row.
    """
    exact = _as_fractions(weights)
    used = [i for i, weight in enumerate(exact) if weight > 0]
    if len(used) == 1:
        return np.full(n_rows, used[0], dtype=np.int16)
    scale = 2 * len(used) - 2  # 1/δ
    total = sum(exact, start=Fraction(0))
    # Steps in which source i is owed δ rows: up[i] / down[i].
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
            f"mixture: weights must be finite, not negative and not all zero, not {list(map(float, weights))}"
        )
    return [Fraction(weight) for weight in weights]


@dataclass(frozen=True)
class MixturePhase:
    """A stretch of training with one mixture and one row length."""

    n_rows: int
    """Rows of all sources together; a multiple of the rows per step."""
    sequence_length: int
    """Tokens per row."""
    weights: Mapping[str, float]
    """Source → weight in rows; scaled to sum to 1."""
    batch_size: int | None = None
    """Rows per step over all ranks, if it differs from the loader's (long rows, same tokens per step)."""


class Usage(TypedDict):
    """What a source contributes to a run or phase."""

    rows: int
    tokens: int
    """Without padding."""
    padding: int
    epochs: float
    """Passes over its documents."""


class _Taken(NamedTuple):
    """Usage with exact epochs, so that phases add up without rounding error."""

    rows: int
    tokens: int
    padding: int
    epochs: Fraction


class _PhaseTable:
    """For one phase: the source of each row, and its index among that source's rows."""

    def __init__(self, phase: MixturePhase, sources: list[SourceRows]) -> None:
        self.sources = sources
        self.source = assign(list(phase.weights.values()), phase.n_rows)
        self.index = np.empty(phase.n_rows, dtype=np.int64)
        self.counts = np.bincount(self.source, minlength=len(sources))
        for i, count in enumerate(self.counts):
            self.index[self.source == i] = np.arange(count)


class MixtureLoader:
    """The batches of a run with several phases.

    Rank r of W takes the r-th of W equal slices of a step's rows, split into micro-batches: concatenated, the ranks'
    batches are the same rows in the same order for every W. Also a map-style dataset for torch's DataLoader
    (`batch_size=None`). Raises UserError if phases, sources and ranks are inconsistent.
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
        """Index of a step's phase. Raises IndexError beyond the last step."""
        if not 0 <= step < self.n_steps:
            raise IndexError(f"step {step} of {self.n_steps}")
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def batches(self, step: int) -> list[PackedBatch]:
        """This rank's micro-batches of a global step."""
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
        """Rows that each source of the phase contributes to a global step, over all ranks."""
        number = self.phase_of(step)
        table, rows = self._table(number), self._batch_size[number]
        first = (step - int(self._first_steps[number])) * rows
        counts = np.bincount(table.source[first : first + rows], minlength=len(table.sources))
        return dict(zip(self.phases[number].weights, counts.tolist(), strict=True))

    def usage(self, phase: int | None = None) -> dict[str, Usage]:
        """What each source contributes to the run or one phase; computed from lengths, without reading tokens."""
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
                raise UserError(f"{where}: mixture names source {name!r}; there are {', '.join(sorted(self._sources))}")
        _as_fractions(list(phase.weights.values()))
        if phase.sequence_length < 2:
            raise UserError(f"{where}: sequence_length {phase.sequence_length} is below 2")
        if phase.n_rows % batch_size:
            raise UserError(f"{where}: {phase.n_rows} rows are not whole steps of {batch_size}")
        if batch_size % self._world_size:
            raise UserError(f"{where}: {batch_size} rows per step cannot be split evenly over {self._world_size} ranks")

    def _pack(self, table: _PhaseTable, number: int, rows: slice) -> PackedBatch:
        chosen = [(table.sources[i], int(k)) for i, k in zip(table.source[rows], table.index[rows], strict=True)]
        pieces = [(source.source, source.row(k)) for source, k in chosen]
        return pack_rows(pieces, self.phases[number].sequence_length, self._pad_id)

    def _table(self, number: int) -> _PhaseTable:
        with self._lock:
            if number not in self._tables:
                for earlier in range(len(self._usage), number):
                    self._finish(earlier)
                # Keep neighbours: at a phase boundary, a prefetcher's threads work in both.
                near = {n: table for n, table in self._tables.items() if abs(n - number) == 1}
                self._tables = near | {number: self._build(number)}
            return self._tables[number]

    def _build(self, number: int) -> _PhaseTable:
        """The table of a phase whose predecessors are finished: each source continues where they stopped."""
        phase, cursors = self.phases[number], self._cursors[number]
        rows = [
            SourceRows(self._sources[name], self._seed, phase.sequence_length, cursors.get(name, START))
            for name in phase.weights
        ]
        return _PhaseTable(phase, rows)

    def _finish(self, number: int) -> None:
        """Records where a phase leaves its sources and how much it took from them."""
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


def check_epochs(usage: Mapping[str, Usage], limits: Mapping[str, float]) -> None:
    """Raises UserError naming the first source repeated beyond its limit. Without one it may repeat forever."""
    for name, used in usage.items():
        limit = limits.get(name)
        if limit is not None and used["epochs"] > limit:
            raise UserError(
                f"source {name!r}: the run needs {used['epochs']:.4g} epochs of its documents, more than max_epochs = "
                f"{limit:g}; lower its weight or the tokens of its phases, or raise max_epochs"
            )
