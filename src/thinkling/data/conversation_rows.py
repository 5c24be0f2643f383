"""Packs encoded conversations into rows on demand.

Shapes use B for rows and T for positions. Each epoch visits all conversations in a different order, which depends only
on the seed and the epoch. An epoch is packed by first fit in independent windows of up to 65,536 conversations. Only
one number per window and the packing of the windows in use are kept in memory.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from thinkling.data.encoded import EncodedConversations
from thinkling.data.mixture import assign
from thinkling.data.packing import PackedBatch, first_fit, lay_conversations
from thinkling.seeds import derive, permutation, permuted

WINDOW = 1 << 16
"""Number of conversations that are packed together. Smaller windows result in more padding. First fit takes about one
second per window."""
_KEPT = 2


class _Window(NamedTuple):
    """The positions start:stop in the order of an epoch."""

    epoch: int
    start: int
    stop: int


class ConversationRows:
    """The rows of a set of conversations, in a fixed order. Instances can be shared between threads."""

    def __init__(
        self,
        encoded: EncodedConversations,
        items: range,
        sequence_length: int,
        seed: int,
        epochs: float = math.inf,
        window: int = WINDOW,
    ) -> None:
        """Creates the rows of the conversations `items`, of which there must be at least one.

        The rows end after `epochs` passes over the conversations. A fractional last pass covers only the first part of
        its order.
        """
        assert len(items) > 0
        self.encoded, self.items, self.sequence_length, self.epochs = encoded, items, sequence_length, epochs
        self._seed, self._window = seed, window
        self._windows: list[_Window] = []
        self._ends: list[int] = []
        self._packed: OrderedDict[_Window, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def n_rows(self) -> int:
        """Number of rows in all epochs. `epochs` must be finite."""
        for _ in self.pack():
            pass
        return self._ends[-1]

    def rows_of_first_epoch(self) -> int:
        """Returns the number of rows in the first epoch."""
        for _ in self.pack(first_epoch=True):
            pass
        return self._ends[bisect_right([w.epoch for w in self._windows], 0) - 1]

    def pack(self, first_epoch: bool = False) -> Iterator[int]:
        """Packs the windows of all epochs, or of the first epoch, that have not been packed yet.

        Yields the number of conversations in each window.
        """
        assert first_epoch or self.epochs < math.inf
        while not (first_epoch and self._windows and self._windows[-1].stop >= len(self.items)):
            with self._lock:
                window = self._next_window()
                if window is None:
                    return
                self._add(window)
            yield window.stop - window.start

    def row(self, i: int) -> np.ndarray:
        """Returns the indices of the conversations in row i, int64, in order."""
        with self._lock:
            number = self._window_of(i)
            items, starts = self._pack(self._windows[number])
            at = i - (self._ends[number - 1] if number else 0)
            return items[starts[at] : starts[at + 1]]

    def items_of(self, n_rows: int) -> Iterator[np.ndarray]:
        """Yields the indices of the conversations in the first n_rows rows, int64, in chunks.

        A conversation that occurs in several rows is yielded once for each of them.
        """
        done = 0
        while done < n_rows:
            with self._lock:
                number = self._window_of(done)
                window, end = self._windows[number], self._ends[number]
                if end <= n_rows:
                    part = self._order(window)
                else:
                    items, starts = self._pack(window)
                    part = items[: starts[n_rows - done]]
            yield part
            done = end

    def _window_of(self, row: int) -> int:
        while not self._ends or self._ends[-1] <= row:
            window = self._next_window()
            if window is None:
                raise IndexError(f"row {row} of {self._ends[-1] if self._ends else 0}")
            self._add(window)
        return bisect_right(self._ends, row)

    def _next_window(self) -> _Window | None:
        epoch, place = (self._windows[-1].epoch, self._windows[-1].stop) if self._windows else (0, 0)
        if self._windows and place >= self._places(epoch):
            epoch, place = epoch + 1, 0
        places = self._places(epoch)
        return _Window(epoch, place, min(place + self._window, places)) if places else None

    def _places(self, epoch: int) -> int:
        """Returns the number of conversations that an epoch visits.

        This is the number of all conversations, except in the last epoch, which may visit only a prefix of its order.
        """
        return math.ceil(len(self.items) * max(0.0, min(1.0, self.epochs - epoch)))

    def _add(self, window: _Window) -> None:
        _, starts = self._pack(window)
        self._windows.append(window)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(starts) - 1)

    def _order(self, window: _Window) -> np.ndarray:
        n, seed = len(self.items), derive(self._seed, "conversations", window.epoch)
        if n <= self._window:
            chosen = permutation(n, seed)[window.start : window.stop]
        else:
            chosen = permuted(np.arange(window.start, window.stop), n, seed)
        return chosen + self.items.start

    def _pack(self, window: _Window) -> tuple[np.ndarray, np.ndarray]:
        """Returns the conversations in row order, and the start of each row followed by the end of the last row."""
        if window not in self._packed:
            order = self._order(window)
            rows = first_fit(self.encoded.lengths(order).tolist(), self.sequence_length)
            starts = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum([len(row) for row in rows], out=starts[1:])
            self._packed[window] = (order[np.concatenate([np.array(row, dtype=np.int64) for row in rows])], starts)
            while len(self._packed) > _KEPT:
                self._packed.popitem(last=False)
        self._packed.move_to_end(window)
        return self._packed[window]


class RowsUsed(NamedTuple):
    """The contribution of a group of conversations to training."""

    conversations: int
    """Number of times that conversations of the group are trained on."""
    tokens: int
    loss_tokens: int


class MixedRows:
    """The rows of a run, which are those of a single `ConversationRows`, or those of several, interleaved by weight."""

    def __init__(self, parts: Sequence[ConversationRows], weights: Sequence[float], n_rows: int) -> None:
        self.parts, self.n_rows = list(parts), n_rows
        self._part = assign(weights, n_rows) if len(parts) > 1 else np.zeros(n_rows, dtype=np.int8)
        self.rows_of_part = np.bincount(self._part, minlength=len(parts)).tolist()
        self._index = np.empty(n_rows, dtype=np.int64)
        for number, count in enumerate(self.rows_of_part):
            self._index[self._part == number] = np.arange(count)

    def batch(self, start: int, stop: int, pad_id: int) -> PackedBatch:
        """Returns the rows start:stop as a batch."""
        chosen = [(self.parts[self._part[i]], int(self._index[i])) for i in range(start, stop)]
        rows = [[part.encoded.read(int(item)) for item in part.row(index)] for part, index in chosen]
        return lay_conversations(rows, self.parts[0].sequence_length, pad_id)

    def used(self) -> Mapping[str, RowsUsed]:
        """Returns the contribution of each group, computed without reading tokens."""
        encoded = self.parts[0].encoded
        firsts = np.array([group.first for group in encoded.groups if group.n])
        names = [group.name for group in encoded.groups if group.n]
        sums = np.zeros((3, len(names)), dtype=np.int64)
        for part, n_rows in zip(self.parts, self.rows_of_part, strict=True):
            for items in part.items_of(n_rows):
                group = np.searchsorted(firsts, items, side="right") - 1
                sums[0] += np.bincount(group, minlength=len(names))
                for total, amounts in ((sums[1], encoded.lengths(items)), (sums[2], encoded.loss_tokens(items))):
                    np.add.at(total, group, amounts)
        return {name: RowsUsed(*map(int, column)) for name, column in zip(names, sums.T, strict=True)}
