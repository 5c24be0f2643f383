"""Packing: every token of every document once an epoch, whole where it fits, whatever the row lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data import packing
from thinkling.data.packing import Cursor, Epochs, Piece, SourceRows, first_fit, pack_conversations, pack_rows
from thinkling.data.shards import MemorySource
from thinkling.errors import UserError
from thinkling.labels import IGNORE

properties = settings(max_examples=60, deadline=None)
lengths_of_documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)
row_lengths = st.integers(2, 48)


def memory(name: str, lengths: Sequence[int]) -> MemorySource:
    """Documents whose every token tells where it stands: 1000 · document + place."""
    return MemorySource(name, [1000 * i + np.arange(n) for i, n in enumerate(lengths)])


def rows_by_the_rules(
    source: MemorySource, seed: int, sequence_length: int, cursor: Cursor, n_rows: int
) -> list[list[Piece]]:
    """The rules of packing, a document at a time: slow and plain."""
    epochs, ordinal, offset, rows = Epochs(source, seed), cursor.ordinal, cursor.offset, []
    while len(rows) < n_rows:
        row, room = [], sequence_length
        while room > 0:
            epoch, place = divmod(ordinal, source.n_documents)
            document = int(epochs.order(epoch)[place])
            length = int(source.lengths[document])
            if offset == 0 and length <= sequence_length and length > room:
                break
            stop = min(length, offset + room)
            row.append(Piece(document, offset, stop))
            room -= stop - offset
            ordinal, offset = (ordinal + 1, 0) if stop == length else (ordinal, stop)
        rows.append(row)
    return rows


@properties
@given(lengths_of_documents, row_lengths, st.integers(0, 2**40), st.integers(1, 25))
def test_rows_follow_the_rules(lengths: list[int], sequence_length: int, seed: int, n_rows: int) -> None:
    source = memory("s", lengths)
    rows = SourceRows(source, seed, sequence_length)
    expected = rows_by_the_rules(source, seed, sequence_length, Cursor(), n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)  # rows may be asked for in any order
    found = {int(i): rows.row(int(i)) for i in order}
    assert [found[i] for i in range(n_rows)] == expected
    assert all(sum(p.stop - p.start for p in row) <= sequence_length for row in expected)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_rows_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    source = memory("s", lengths)
    expected = rows_by_the_rules(source, 5, 40, Cursor(), 400)
    monkeypatch.setattr(packing, "_CHUNK", chunk)
    rows = SourceRows(source, 5, 40)
    assert [rows.row(i) for i in range(400)] == expected


@properties
@given(
    lengths_of_documents,
    st.integers(0, 2**40),
    st.lists(st.tuples(row_lengths, st.integers(0, 12)), min_size=1, max_size=5),
)
def test_every_token_once_an_epoch_across_changes_of_row_length(
    lengths: list[int], seed: int, phases: list[tuple[int, int]]
) -> None:
    source, cursor = memory("s", lengths), Cursor()
    stream: list[int] = []
    for sequence_length, n_rows in phases:
        rows = SourceRows(source, seed, sequence_length, cursor)
        laid = [[source.document(p.document)[p.start : p.stop] for p in rows.row(i)] for i in range(n_rows)]
        phase_tokens = [t for row in laid for piece in row for t in piece.tolist()]
        assert rows.tokens(n_rows) == len(phase_tokens)
        stream += phase_tokens
        cursor = rows.cursor_after(n_rows)
    # The stream is the epochs' permutations end to end: no token lost, doubled or out of place.
    epochs = Epochs(source, seed)
    n_epochs = cursor.ordinal // source.n_documents + 1
    whole = [t for e in range(n_epochs) for d in epochs.order(e) for t in source.document(int(d)).tolist()]
    assert stream == whole[: len(stream)]
    assert len(stream) == epochs.tokens_before(cursor)
    per_epoch = sum(lengths)
    for epoch in range(len(stream) // per_epoch):
        counts = Counter(t // 1000 for t in stream[epoch * per_epoch : (epoch + 1) * per_epoch] if t % 1000 == 0)
        assert counts == dict.fromkeys(range(len(lengths)), 1)


@properties
@given(lengths_of_documents, row_lengths, st.integers(0, 2**40))
def test_documents_that_fit_stay_whole(lengths: list[int], sequence_length: int, seed: int) -> None:
    rows = SourceRows(memory("s", lengths), seed, sequence_length)
    pieces = [piece for i in range(20) for piece in rows.row(i)]
    assert all(p == Piece(p.document, 0, lengths[p.document]) for p in pieces if lengths[p.document] <= sequence_length)


def test_epochs_are_different_permutations_of_the_seed_and_the_name() -> None:
    lengths = [3] * 50
    one = Epochs(memory("a", lengths), 1)
    orders = [one.order(0), one.order(1), Epochs(memory("a", lengths), 2).order(0)]
    orders.append(Epochs(memory("b", lengths), 1).order(0))
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(Epochs(memory("a", lengths), 1).order(1), orders[1])


def test_order_is_the_one_that_runs_were_made_with() -> None:
    """Golden: a change of this order changes every run's data and needs a new code version of pretrain."""
    assert Epochs(memory("code", [1] * 8), 7).order(3).tolist() == [0, 1, 6, 3, 5, 7, 2, 4]


def test_epochs_passed_are_exact() -> None:
    epochs = Epochs(memory("s", [4, 4, 4]), 0)
    assert epochs.passed(Cursor(6, 0)) == 2
    assert epochs.passed(Cursor(1, 1)) * 12 == 5


@properties
@given(lengths_of_documents, row_lengths, st.integers(0, 2**40))
def test_labels_predict_each_token_but_the_first_exactly_once(
    lengths: list[int], sequence_length: int, seed: int
) -> None:
    source = memory("s", lengths)
    rows = SourceRows(source, seed, sequence_length)
    n_rows = 0
    while rows.cursor_after(n_rows).ordinal < len(lengths):
        n_rows += 1
    batch = pack_rows([(source, rows.row(i)) for i in range(n_rows)], sequence_length, pad_id=77)
    assert batch.tokens_BT.shape == batch.labels_BT.shape == (n_rows, sequence_length)
    labels, tokens = batch.labels_BT, batch.tokens_BT
    has_loss = labels != IGNORE
    assert (labels[has_loss] == tokens[has_loss] + 1).all()  # the next token of the same document
    for b, row in enumerate(batch.lengths):
        assert (tokens[b, sum(row) :] == 77).all()
        assert (labels[b, sum(row) :] == IGNORE).all()
    last = rows.cursor_after(n_rows)
    expected = Counter(t for d, n in enumerate(lengths) for t in range(1000 * d + 1, 1000 * d + n))
    found = Counter(labels[has_loss].tolist())
    assert batch.n_loss_tokens == has_loss.sum()
    if last == Cursor(len(lengths)):
        assert found == expected
    assert all(found[t] >= n for t, n in expected.items())


def test_a_view_of_rows_shares_memory() -> None:
    source = memory("s", [5, 6, 7])
    batch = pack_rows([(source, [Piece(i, 0, 5 + i)]) for i in range(3)], 8)
    part = batch.rows(1, 3)
    assert part.lengths == ((6,), (7,))
    assert np.shares_memory(part.tokens_BT, batch.tokens_BT)
    np.testing.assert_array_equal(part.tokens_BT[0], [1000, 1001, 1002, 1003, 1004, 1005, 0, 0])


def test_a_source_without_documents_is_named() -> None:
    with pytest.raises(UserError, match="'empty'"):
        SourceRows(memory("empty", []), 0, 8)


@properties
@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 50))
def test_first_fit_puts_each_item_in_the_first_row_with_room(lengths: list[int], sequence_length: int) -> None:
    expected: list[list[int]] = []
    for item, length in enumerate(lengths):
        for row in expected:
            if sum(lengths[i] for i in row) + length <= sequence_length:
                row.append(item)
                break
        else:
            expected.append([item])
    assert first_fit(lengths, sequence_length) == expected


@pytest.mark.parametrize("length", [0, 9])
def test_first_fit_refuses_what_no_row_takes(length: int) -> None:
    with pytest.raises(UserError, match=f"item 1 has {length} tokens"):
        first_fit([3, length], 8)


@properties
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=12), st.integers(9, 20))
def test_conversations_are_masked_and_shifted(masks: list[list[bool]], sequence_length: int) -> None:
    conversations = [(1000 * i + np.arange(len(mask)), np.array(mask)) for i, mask in enumerate(masks)]
    batch = pack_conversations(conversations, sequence_length, pad_id=7)
    assert sorted(n for row in batch.lengths for n in row) == sorted(map(len, masks))
    labels = batch.labels_BT[batch.labels_BT != IGNORE].tolist()
    wanted = [1000 * i + t for i, mask in enumerate(masks) for t, m in enumerate(mask) if m and t]
    assert sorted(labels) == wanted
    at = batch.labels_BT != IGNORE
    assert (batch.labels_BT[at] == batch.tokens_BT[at] + 1).all()
    assert batch.n_loss_tokens == len(wanted)
