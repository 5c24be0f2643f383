"""Documents and conversations → rows of equal length.

B rows, T positions (the row length). A row is a list of pieces laid end to end from position 0; what is left is
padding, which belongs to no document.

Rows of one source are a pure function of (seed, row index). Epoch e visits the documents in the order of a permutation
drawn from (seed, source, e) alone. A document that fits in a row stays whole: where it does not fit in what is left of
this one, the rest is padded and it opens the next. A document longer than a row fills what is left and goes on in the
next rows. So the place in the stream at a row's edge is a document and a token in it (`Cursor`), whatever the row
length was.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from thinkling.errors import UserError
from thinkling.labels import IGNORE
from thinkling.seeds import derive, permutation

_CHUNK = 1 << 16
_CACHED_EPOCHS = 3


class DocumentSource(Protocol):
    """What rows are made from: `shards.TokenSource`, or documents in memory."""

    name: str
    n_documents: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens a document, int64 (n_documents,), all ≥ 1."""
        ...

    def document(self, i: int) -> np.ndarray:
        """Token ids of document i, (T,)."""
        ...


class Cursor(NamedTuple):
    """A place in the endless stream of a source's documents."""

    ordinal: int = 0
    """Documents passed since the start: epoch `ordinal // n`, place `ordinal % n` in its permutation."""
    offset: int = 0
    """Tokens of this document already used."""


START = Cursor()


class Piece(NamedTuple):
    """Tokens start:stop of a document, laid in a row."""

    document: int
    start: int
    stop: int


@dataclass(frozen=True)
class PackedBatch:
    """Rows for one forward pass."""

    tokens_BT: np.ndarray
    """int64. Padding holds an id of no meaning."""
    labels_BT: np.ndarray
    """int64, already shifted: the token to predict at each position. -100 where there is no loss: padding, masked
    tokens, and a document's last token, which predicts nothing."""
    lengths: tuple[tuple[int, ...], ...]
    """A row: lengths of its pieces, in order; their sum is at most T."""

    @property
    def n_loss_tokens(self) -> int:
        return int((self.labels_BT != IGNORE).sum())

    def rows(self, start: int, stop: int) -> PackedBatch:
        """Rows start:stop, as views."""
        return PackedBatch(self.tokens_BT[start:stop], self.labels_BT[start:stop], self.lengths[start:stop])


class Epochs:
    """The order of a source's documents, an epoch at a time. Its last few epochs are kept: 16 bytes a document each."""

    def __init__(self, source: DocumentSource, seed: int) -> None:
        if source.n_documents == 0:
            raise UserError(f"source {source.name!r} has no documents; take it out of the mixture")
        self.n = source.n_documents
        self._source = source
        self._seed = seed
        self._cache: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def order(self, epoch: int) -> np.ndarray:
        """Permutation of the documents, int64 (n,)."""
        return self._get(epoch)[0]

    def ends(self, epoch: int) -> np.ndarray:
        """Tokens before each place of the permutation and, last, of the whole epoch: int64 (n + 1,)."""
        return self._get(epoch)[1]

    def tokens_before(self, cursor: Cursor) -> int:
        """Tokens of the stream before a cursor, padding aside."""
        epoch, place = divmod(cursor.ordinal, self.n)
        total = int(self._source.lengths.sum())
        return epoch * total + int(self.ends(epoch)[place]) + cursor.offset

    def passed(self, cursor: Cursor) -> Fraction:
        """Epochs before a cursor, counted in documents; exactly k at the end of the k-th."""
        epoch, place = divmod(cursor.ordinal, self.n)
        part = Fraction(cursor.offset, int(self._source.lengths[self.order(epoch)[place]]))
        return (cursor.ordinal + part) / self.n

    def _get(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if epoch not in self._cache:
            order = permutation(self.n, derive(self._seed, "documents", self._source.name, epoch))
            ends = np.zeros(self.n + 1, dtype=np.int64)
            np.cumsum(self._source.lengths[order], out=ends[1:])
            self._cache[epoch] = (order, ends)
            while len(self._cache) > _CACHED_EPOCHS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(epoch)
        return self._cache[epoch]


class SourceRows:
    """The rows of one source from a cursor on, at one row length. Safe to share between threads."""

    def __init__(self, source: DocumentSource, seed: int, sequence_length: int, cursor: Cursor = START) -> None:
        self.source = source
        self.sequence_length = sequence_length
        self.epochs = Epochs(source, seed)
        self._ordinals = array("q", [cursor.ordinal])
        self._offsets = array("q", [cursor.offset])
        self._chunk: tuple[int, int, list[int]] = (-1, 0, [])
        self._lock = threading.RLock()

    def cursor_after(self, n_rows: int) -> Cursor:
        """Where row n_rows starts, and so where a phase with another row length goes on."""
        with self._lock:
            while len(self._ordinals) <= n_rows:
                self._extend(n_rows)
            return Cursor(self._ordinals[n_rows], self._offsets[n_rows])

    def row(self, i: int) -> list[Piece]:
        """The pieces of row i, in order."""
        with self._lock:
            last = self.cursor_after(i + 1)
            ordinal, start = self._ordinals[i], self._offsets[i]
            pieces = []
            while ordinal < last.ordinal:
                document = self._document_at(ordinal)
                pieces.append(Piece(document, start, int(self.source.lengths[document])))
                ordinal, start = ordinal + 1, 0
            if last.offset:
                pieces.append(Piece(self._document_at(ordinal), start, last.offset))
            return pieces

    def tokens(self, n_rows: int) -> int:
        """Tokens in the first n_rows rows, padding aside; no token is read."""
        return self.epochs.tokens_before(self.cursor_after(n_rows)) - self.epochs.tokens_before(self.cursor_after(0))

    def _document_at(self, ordinal: int) -> int:
        epoch, place = divmod(ordinal, self.epochs.n)
        return int(self.epochs.order(epoch)[place])

    def _extend(self, n_rows: int) -> None:
        """Adds the starts of at least one more row, of at most n_rows in all."""
        self._fill_short(n_rows)
        if len(self._ordinals) <= n_rows:
            self._fill_one()

    def _fill_short(self, n_rows: int) -> None:
        """Rows of whole short documents of one epoch: nearly all rows, found without a loop over documents."""
        if self._offsets[-1]:
            return
        epoch, place = divmod(self._ordinals[-1], self.epochs.n)
        first, starts = self._following(epoch, place)
        while len(self._ordinals) <= n_rows and place - first < len(starts) and (place := starts[place - first]) >= 0:
            self._ordinals.append(epoch * self.epochs.n + place)
            self._offsets.append(0)

    def _following(self, epoch: int, place: int) -> tuple[int, list[int]]:
        """(first, list): a row that starts at place first + i ends before place list[i].

        -1 where that one is long, and would fill the row, or belongs to the next epoch. The last chunk asked for is
        kept.
        """
        known, first, starts = self._chunk
        if known != epoch or not first <= place < first + len(starts):
            n, ends = self.epochs.n, self.epochs.ends(epoch)
            first, stop = place, min(place + _CHUNK, n)
            following = np.searchsorted(ends, ends[first:stop] + self.sequence_length, side="right") - 1
            next_one = np.minimum(following, n - 1)
            following[(following == n) | (ends[next_one + 1] - ends[next_one] > self.sequence_length)] = -1
            starts = following.tolist()
            self._chunk = (epoch, first, starts)
        return first, starts

    def _fill_one(self) -> None:
        """One row by the rules, whatever it holds."""
        ordinal, offset, room = self._ordinals[-1], self._offsets[-1], self.sequence_length
        while room:
            epoch, place = divmod(ordinal, self.epochs.n)
            ends = self.epochs.ends(epoch)
            length = int(ends[place + 1] - ends[place])
            if length <= self.sequence_length and length - offset > room:
                break
            taken = min(length - offset, room)
            room, offset = room - taken, offset + taken
            if offset == length:
                ordinal, offset = ordinal + 1, 0
        self._ordinals.append(ordinal)
        self._offsets.append(offset)


def pack_rows(
    rows: Sequence[tuple[DocumentSource, Sequence[Piece]]], sequence_length: int, pad_id: int = 0
) -> PackedBatch:
    """Rows of pieces, each with its source, as one batch.

    Where a piece ends inside its document, its last token predicts the token that opens the next piece: every token of
    a document but the first is predicted exactly once.
    """
    tokens_BT = np.full((len(rows), sequence_length), pad_id, dtype=np.int64)
    labels_BT = np.full((len(rows), sequence_length), IGNORE, dtype=np.int64)
    for b, (source, pieces) in enumerate(rows):
        t = 0
        for piece in pieces:
            ids = source.document(piece.document)
            n = piece.stop - piece.start
            tokens_BT[b, t : t + n] = ids[piece.start : piece.stop]
            targets = ids[piece.start + 1 : piece.stop + 1]
            labels_BT[b, t : t + len(targets)] = targets
            t += n
    lengths = tuple(tuple(piece.stop - piece.start for piece in pieces) for _, pieces in rows)
    return PackedBatch(tokens_BT, labels_BT, lengths)


def first_fit(lengths: Sequence[int], sequence_length: int) -> list[list[int]]:
    """Items by row: each goes, in order, to the first row that has room for it. O(n log n), by a tree of maxima.

    UserError where an item is longer than a row, or empty.
    """
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [sequence_length] * (2 * size)
    rows: list[list[int]] = []
    for item, length in enumerate(lengths):
        if not 0 < length <= sequence_length:
            raise UserError(
                f"item {item} has {length} tokens, a row takes 1 to {sequence_length}; raise sequence_length or drop it"
            )
        node = 1
        while node < size:
            node = 2 * node if room[2 * node] >= length else 2 * node + 1
        row = node - size
        if row == len(rows):
            rows.append([])
        rows[row].append(item)
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return rows


def pack_conversations(
    conversations: Sequence[tuple[np.ndarray, np.ndarray]], sequence_length: int, pad_id: int = 0
) -> PackedBatch:
    """Conversations (ids (T,), loss_mask (T,) bool) packed by first fit, in order, into as many rows as it takes.

    `loss_mask` marks the tokens to be predicted; a first token is never predicted. UserError where one is longer than
    a row.
    """
    rows = first_fit([len(ids) for ids, _ in conversations], sequence_length)
    return lay_conversations([[conversations[item] for item in items] for items in rows], sequence_length, pad_id)


def lay_conversations(
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], sequence_length: int, pad_id: int = 0
) -> PackedBatch:
    """Rows of conversations (ids (T,), loss_mask (T,) bool) as one batch."""
    tokens_BT = np.full((len(rows), sequence_length), pad_id, dtype=np.int64)
    labels_BT = np.full((len(rows), sequence_length), IGNORE, dtype=np.int64)
    for b, conversations in enumerate(rows):
        t = 0
        for ids, mask in conversations:
            n = len(ids)
            tokens_BT[b, t : t + n] = ids
            labels_BT[b, t : t + n - 1] = np.where(mask[1:], ids[1:], IGNORE)
            t += n
    return PackedBatch(tokens_BT, labels_BT, tuple(tuple(len(ids) for ids, _ in row) for row in rows))
