"""Packs documents into rows with little padding, by best fit over a bounded look-ahead.

The stream of a source's documents (`packing.Epochs`) is divided into windows of up to `LOOK_AHEAD` documents. The
documents of a window are packed by best-fit decreasing: from the longest to the shortest, each into the row with the
least room that suffices. A document that fits in a row is never cut. A document longer than a row is cut into whole
rows, and its rest is packed like a document. The emptiest row of a window is postponed: it is the first row of the next
window, which fills it. Windows and epochs therefore do not end with a nearly empty row. No piece is postponed twice.
The rows of a window are in random order, because best fit would put long documents first.

The rows are a pure function of (seed, row index), as in sequential packing: a window depends only on the position at
which it starts and on the pieces that it receives. Memory is bounded: only the starts of windows are kept, and a window
is computed again (in about 20 ms) when one of its rows is requested.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinkling.data.packing import START, Cursor, DocumentLengths, Epochs, Piece
from thinkling.seeds import derive, permutation

LOOK_AHEAD = 16_384
"""Maximum number of documents in a window, and of rows that the tokens of its documents fill."""
_CACHED_WINDOWS = 2


def best_fit(lengths: np.ndarray, sequence_length: int, filled: int = 0) -> tuple[np.ndarray, int]:
    """Assigns items of 1 to `sequence_length` tokens to rows by best-fit decreasing.

    If `filled` is positive, row 0 contains this number of tokens from the start. Returns the row of each item,
    int64 (n,), and the number of rows. Any two rows together have more than `sequence_length` tokens. Takes about 1 µs
    per item.
    """
    order = np.argsort(-lengths, kind="stable")
    n_full = int((lengths == sequence_length).sum())
    n_rows = n_full + (filled > 0)
    placed = list(range(n_rows - n_full, n_rows))
    rooms: list[int] = []  # the distinct rooms of open rows, in increasing order
    rows_with: dict[int, list[int]] = {}
    if 0 < filled < sequence_length:
        rooms.append(sequence_length - filled)
        rows_with[rooms[0]] = [0]
    for length in lengths[order[n_full:]].tolist():
        k = bisect_left(rooms, length)
        if k == len(rooms):
            row, room = n_rows, sequence_length
            n_rows += 1
        else:
            room = rooms[k]
            rows = rows_with[room]
            row = rows.pop()
            if not rows:
                del rows_with[room], rooms[k]
        placed.append(row)
        room -= length
        if room in rows_with:
            rows_with[room].append(row)
        elif room:
            insort(rooms, room)
            rows_with[room] = [row]
    row_of = np.empty(len(lengths), dtype=np.int64)
    row_of[order] = placed
    return row_of, n_rows


class _Start(NamedTuple):
    """The position at which a window starts."""

    row: int
    """Number of rows in earlier windows."""
    ordinal: int
    """The first document of the window in the stream."""
    carried: tuple[Piece, ...]
    """Pieces of earlier documents that the window receives."""


class _Window(NamedTuple):
    """The rows of a window: row r has the pieces rows[r]:rows[r + 1]."""

    documents: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    rows: np.ndarray

    def pieces(self, first: int, stop: int) -> list[Piece]:
        """Returns the pieces of the rows first:stop, in order."""
        part = slice(int(self.rows[first]), int(self.rows[stop]))
        columns = (self.documents[part].tolist(), self.starts[part].tolist(), self.stops[part].tolist())
        return [Piece(*fields) for fields in zip(*columns, strict=True)]


class BestFitRows:
    """The rows of one source, starting at a cursor, with a fixed length, packed by best fit.

    The interface is that of `packing.SourceRows`. Instances can be shared between threads.
    """

    def __init__(self, source: DocumentLengths, seed: int, sequence_length: int, cursor: Cursor = START) -> None:
        self.source = source
        self.sequence_length = sequence_length
        self.epochs = Epochs(source, seed)
        self._seed = seed
        ordinal, carried = cursor.ordinal, cursor.pending
        if cursor.offset:
            epoch, place = divmod(ordinal, self.epochs.n)
            document = int(self.epochs.order(epoch)[place])
            carried += (Piece(document, cursor.offset, int(source.lengths[document])),)
            ordinal += 1
        self._starts = [_Start(0, ordinal, carried)]
        self._cache: OrderedDict[int, _Window] = OrderedDict()
        self._lock = threading.RLock()

    def cursor_after(self, n_rows: int) -> Cursor:
        """Returns the cursor after n_rows rows, at which a phase with a different row length can continue."""
        with self._lock:
            number = self._window_of(n_rows)
            start = self._starts[number]
            if n_rows == start.row:
                return Cursor(start.ordinal, 0, start.carried)
            window, after = self._window(number), self._starts[number + 1]
            rest = window.pieces(n_rows - start.row, after.row - start.row)
            return Cursor(after.ordinal, 0, _merged([*rest, *after.carried]))

    def row(self, i: int) -> list[Piece]:
        """Returns the pieces of row i, in order."""
        with self._lock:
            number = self._window_of(i)
            r = i - self._starts[number].row
            return self._window(number).pieces(r, r + 1)

    def tokens(self, n_rows: int) -> int:
        """Returns the number of tokens in the first n_rows rows, without padding and without reading tokens."""
        return self.epochs.tokens_before(self.cursor_after(n_rows)) - self.epochs.tokens_before(self.cursor_after(0))

    def _window_of(self, i: int) -> int:
        """Returns the number of the window that contains row i."""
        while self._starts[-1].row <= i:
            self._window(len(self._starts) - 1)
        return bisect_right(self._starts, i, key=lambda start: start.row) - 1

    def _window(self, number: int) -> _Window:
        """Returns a window, and records the start of the next one."""
        if number not in self._cache:
            start = self._starts[number]
            window, after = self._packed(start)
            if number + 1 == len(self._starts):
                self._starts.append(after)
            self._cache[number] = window
            while len(self._cache) > _CACHED_WINDOWS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(number)
        return self._cache[number]

    def _packed(self, start: _Start) -> tuple[_Window, _Start]:
        """Packs the window that begins at a position, and returns it with the start of the next window."""
        length = self.sequence_length
        documents, starts, stops, ordinal = self._pool(start)
        # Cut what is longer than a row into whole rows and a rest.
        cuts = -(-(stops - starts) // length)
        which = np.repeat(np.arange(len(documents)), cuts)
        place = np.arange(len(which)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        documents, starts, stops = documents[which], starts[which] + place * length, stops[which]
        stops = np.minimum(stops, starts + length)
        sizes = stops - starts
        old = int((which < len(start.carried)).sum())
        if (received := int(sizes[:old].sum())) <= length:
            row_of, n_rows = best_fit(sizes[old:], length, received)
            row_of = np.concatenate([np.zeros(old, dtype=np.int64), row_of])
        else:  # pieces that an earlier phase left
            row_of, n_rows = best_fit(sizes, length)
        # Postpone the emptiest row that has no piece that was postponed before.
        filled = np.bincount(row_of, weights=sizes, minlength=n_rows)
        filled[row_of[:old]] = length
        emptiest = n_rows - 1 - int(np.argmin(filled[::-1]))
        carried: tuple[Piece, ...] = ()
        order = permutation(n_rows, derive(self._seed, "rows", self.source.name, start.ordinal))
        if filled[emptiest] < length:
            left = np.flatnonzero(row_of == emptiest)
            columns = (documents[left].tolist(), starts[left].tolist(), stops[left].tolist())
            carried = _merged([Piece(*fields) for fields in zip(*columns, strict=True)])
            order = order[order != emptiest]
        rank = np.full(n_rows, len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        ranks = rank[row_of]
        pieces = np.argsort(ranks, kind="stable")
        bounds = np.searchsorted(ranks[pieces], np.arange(len(order) + 1))
        pieces = pieces[: bounds[-1]]
        window = _Window(documents[pieces], starts[pieces], stops[pieces], bounds)
        return window, _Start(start.row + len(order), ordinal, carried)

    def _pool(self, start: _Start) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Returns the documents to pack in a window, with the range of tokens of each, and the ordinal after them."""
        carried = np.array(start.carried, dtype=np.int64).reshape(-1, 3)
        documents, starts, stops = [carried[:, 0]], [carried[:, 1]], [carried[:, 2]]
        count, tokens = len(carried), int((carried[:, 2] - carried[:, 1]).sum())
        ordinal, most = start.ordinal, LOOK_AHEAD * self.sequence_length
        while count < LOOK_AHEAD and tokens < most:
            epoch, place = divmod(ordinal, self.epochs.n)
            ends = self.epochs.ends(epoch)
            enough = int(np.searchsorted(ends, ends[place] + most - tokens))
            stop = min(place + LOOK_AHEAD - count, enough, self.epochs.n)
            taken = self.epochs.order(epoch)[place:stop]
            documents.append(taken)
            starts.append(np.zeros(len(taken), dtype=np.int64))
            stops.append(self.source.lengths[taken])
            count, tokens, ordinal = count + len(taken), tokens + int(ends[stop] - ends[place]), ordinal + len(taken)
            if stop == self.epochs.n and tokens >= self.sequence_length:
                break  # a window ends with its epoch, unless its tokens do not fill a row
        return np.concatenate(documents), np.concatenate(starts), np.concatenate(stops), ordinal


def _merged(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Returns the pieces in the order of documents, with adjacent pieces of a document joined."""
    joined: list[Piece] = []
    for piece in sorted(pieces):
        if joined and joined[-1].document == piece.document and joined[-1].stop == piece.start:
            joined[-1] = Piece(piece.document, joined[-1].start, piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)
