"""Packs documents and conversations into rows of equal length.

Shapes use B for rows and T for positions (the row length). A row is a sequence of adjacent pieces starting at position
0, followed by padding that belongs to no document.

The rows of one source are a pure function of (seed, row index). Epoch e visits the documents in a permutation that
depends only on the seed, the source and e. A document that fits in a row is not split: if it does not fit in the
remainder of the current row, the remainder is padded and the document starts the next row. A document longer than a row
fills the remainder of the current row and continues in the following rows. The boundary between two rows is therefore
described by a document and an offset in this document (`Cursor`), independent of the row length. `best_fit` fills rows
with less padding.
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


class DocumentLengths(Protocol):
    """What rows are planned from: the lengths of a source's documents, without their tokens."""

    name: str
    n_documents: int

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens per document, int64 (n_documents,), all ≥ 1."""
        ...


class DocumentSource(DocumentLengths, Protocol):
    """Interface of the documents to pack, implemented by `shards.TokenSource` and `shards.MemorySource`."""

    def document(self, i: int) -> np.ndarray:
        """Returns the token ids of document i, (T,)."""
        ...


class Piece(NamedTuple):
    """The tokens start:stop of a document, placed in a row."""

    document: int
    start: int
    stop: int


class Cursor(NamedTuple):
    """A position in the endless stream of a source's documents."""

    ordinal: int = 0
    """Number of documents passed since the start. With n documents, the epoch is `ordinal // n` and the place in its
    permutation is `ordinal % n`."""
    offset: int = 0
    """Number of tokens of the current document that have already been used."""
    pending: tuple[Piece, ...] = ()
    """Pieces of passed documents that are in no row yet. Best-fit packing leaves pieces behind (see `best_fit`)."""


START = Cursor()


@dataclass(frozen=True)
class PackedBatch:
    """The rows for one forward pass."""

    tokens_BT: np.ndarray
    """Token ids, int64. Padding has an arbitrary valid id."""
    labels_BT: np.ndarray
    """Labels, int64, already shifted: the token to predict at each position. The label is -100 at positions without
    loss, which are padding, masked tokens, and the last token of a document."""
    lengths: tuple[tuple[int, ...], ...]
    """For each row, the lengths of its pieces in order. Their sum is at most T."""

    @property
    def n_loss_tokens(self) -> int:
        return int((self.labels_BT != IGNORE).sum())

    def rows(self, start: int, stop: int) -> PackedBatch:
        """Returns the rows start:stop as views."""
        return PackedBatch(self.tokens_BT[start:stop], self.labels_BT[start:stop], self.lengths[start:stop])


class Epochs:
    """The order of a source's documents in each epoch.

    The last few epochs are cached, with 16 bytes per document and epoch.
    """

    def __init__(self, source: DocumentLengths, seed: int) -> None:
        if source.n_documents == 0:
            raise UserError(f"source {source.name!r} has no documents; remove it from the mixture")
        self.n = source.n_documents
        self._source = source
        self._seed = seed
        self._cache: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def order(self, epoch: int) -> np.ndarray:
        """Returns the permutation of the documents in an epoch, int64 (n,)."""
        return self._get(epoch)[0]

    def ends(self, epoch: int) -> np.ndarray:
        """Returns the number of tokens before each place of the permutation, followed by the total, int64 (n + 1,)."""
        return self._get(epoch)[1]

    def tokens_before(self, cursor: Cursor) -> int:
        """Returns the number of tokens of the stream in rows before a cursor, without padding."""
        epoch, place = divmod(cursor.ordinal, self.n)
        total = int(self._source.lengths.sum())
        pending = sum(piece.stop - piece.start for piece in cursor.pending)
        return epoch * total + int(self.ends(epoch)[place]) + cursor.offset - pending

    def passed(self, cursor: Cursor) -> Fraction:
        """Returns the number of epochs before a cursor, measured in documents; exactly k after k epochs."""
        epoch, place = divmod(cursor.ordinal, self.n)
        part = Fraction(cursor.offset, int(self._source.lengths[self.order(epoch)[place]]))
        # Parts of pending documents are rounded to 2**-32, because exact sums of thousands of fractions are slow.
        pending = sum(
            ((piece.stop - piece.start) << 32) // int(self._source.lengths[piece.document]) for piece in cursor.pending
        )
        return (cursor.ordinal + part - Fraction(pending, 1 << 32)) / self.n

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
    """The rows of one source, starting at a cursor, with a fixed length. Instances can be shared between threads.

    Raises ValueError if the cursor has pending pieces, which only `best_fit.BestFitRows` can place.
    """

    def __init__(self, source: DocumentLengths, seed: int, sequence_length: int, cursor: Cursor = START) -> None:
        if cursor.pending:
            raise ValueError(f"source {source.name!r}: sequential packing cannot continue from best-fit packing")
        self.source = source
        self.sequence_length = sequence_length
        self.epochs = Epochs(source, seed)
        self._ordinals = array("q", [cursor.ordinal])
        self._offsets = array("q", [cursor.offset])
        self._chunk: tuple[int, int, list[int]] = (-1, 0, [])
        self._lock = threading.RLock()

    def cursor_after(self, n_rows: int) -> Cursor:
        """Returns the cursor after n_rows rows, at which a phase with a different row length can continue."""
        with self._lock:
            while len(self._ordinals) <= n_rows:
                self._extend(n_rows)
            return Cursor(self._ordinals[n_rows], self._offsets[n_rows])

    def row(self, i: int) -> list[Piece]:
        """Returns the pieces of row i, in order."""
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
        """Returns the number of tokens in the first n_rows rows, without padding and without reading tokens."""
        return self.epochs.tokens_before(self.cursor_after(n_rows)) - self.epochs.tokens_before(self.cursor_after(0))

    def _document_at(self, ordinal: int) -> int:
        epoch, place = divmod(ordinal, self.epochs.n)
        return int(self.epochs.order(epoch)[place])

    def _extend(self, n_rows: int) -> None:
        """Appends the ends of one or more rows, up to n_rows rows in total."""
        self._fill_short(n_rows)
        if len(self._ordinals) <= n_rows:
            self._fill_one()

    def _fill_short(self, n_rows: int) -> None:
        """Adds rows that contain only whole documents of one epoch.

        Nearly all rows are of this kind. They are computed without a loop over documents.
        """
        if self._offsets[-1]:
            return
        epoch, place = divmod(self._ordinals[-1], self.epochs.n)
        first, starts = self._following(epoch, place)
        while len(self._ordinals) <= n_rows and place - first < len(starts) and (place := starts[place - first]) >= 0:
            self._ordinals.append(epoch * self.epochs.n + place)
            self._offsets.append(0)

    def _following(self, epoch: int, place: int) -> tuple[int, list[int]]:
        """Returns (first, list), such that a row that starts at place first + i ends before place list[i].

        An entry is -1 if the document after the row is longer than a row or belongs to the next epoch, because such a
        document may fill the rest of the row. The last chunk is cached.
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
        """Adds one row by the general rules, which cover rows with any contents."""
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
    """Combines rows of pieces, each row with its source, into one batch.

    If a piece ends inside its document, its last token predicts the first token of the next piece. Every token of a
    document except the first is thus predicted exactly once.
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
    """Assigns each item, in order, to the first row with enough room, and returns the items of each row.

    The computation uses a tree of maxima and takes O(n log n) time. Raises UserError if an item is empty or longer than
    a row.
    """
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [sequence_length] * (2 * size)
    rows: list[list[int]] = []
    for item, length in enumerate(lengths):
        if not 0 < length <= sequence_length:
            raise UserError(
                f"item {item} has {length} tokens, but a row can contain 1 to {sequence_length}; raise sequence_length "
                "or remove the item"
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
    """Packs conversations (ids (T,), loss_mask (T,) bool) by first fit, in order, into as many rows as needed.

    `loss_mask` marks the tokens to predict. The first token of a conversation is never predicted. Raises UserError if a
    conversation is longer than a row.
    """
    rows = first_fit([len(ids) for ids, _ in conversations], sequence_length)
    return lay_conversations([[conversations[item] for item in items] for items in rows], sequence_length, pad_id)


def lay_conversations(
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], sequence_length: int, pad_id: int = 0
) -> PackedBatch:
    """Combines rows of conversations (ids (T,), loss_mask (T,) bool) into one batch."""
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
