"""Rows of conversations: each once an epoch, none too long, a pure function of (seed, row), in bounded windows."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.encoded_chats import encoded, items
from thinkling.data.conversation_rows import ConversationRows, MixedRows
from thinkling.data.encoded import EncodedConversations
from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.seeds import derive, permutation

ROW = 16
properties = settings(max_examples=40, deadline=None)
lengths_of = st.lists(st.integers(1, ROW), min_size=1, max_size=40)
windows = st.integers(1, 50)


@contextmanager
def store(*groups: list[int]) -> Iterator[EncodedConversations]:
    """Token ids tell the conversation, also across groups."""
    flat = items([length for group in groups for length in group])
    ends = np.cumsum([0, *map(len, groups)]).tolist()
    with tempfile.TemporaryDirectory() as folder:
        parts = {f"g{i}": flat[ends[i] : ends[i + 1]] for i in range(len(groups))}
        opened = encoded(Path(folder) / "encoded", parts)
        yield opened
        opened.close()


def whole(rows: ConversationRows) -> PackedBatch:
    return MixedRows([rows], [1], rows.n_rows).batch(0, rows.n_rows, 0)


def pack_epochs(lengths: list[int], epochs: float, seed: int) -> PackedBatch:
    """As it was before packing was cut into windows: all of an epoch at once."""
    conversations, parts = items(lengths), []
    for epoch in range(math.ceil(epochs)):
        shuffled = permutation(len(lengths), derive(seed, "conversations", epoch))
        order = shuffled[: math.ceil(len(lengths) * min(1.0, epochs - epoch))]
        parts.append(pack_conversations([conversations[i] for i in order], ROW, 0))
    return PackedBatch(
        np.concatenate([p.tokens_BT for p in parts]),
        np.concatenate([p.labels_BT for p in parts]),
        tuple(row for p in parts for row in p.lengths),
    )


def assert_equal(found: PackedBatch, expected: PackedBatch) -> None:
    assert found.lengths == expected.lengths
    np.testing.assert_array_equal(found.tokens_BT, expected.tokens_BT)
    np.testing.assert_array_equal(found.labels_BT, expected.labels_BT)


@properties
@given(lengths_of, st.floats(0.1, 3.0), st.integers(0, 9))
def test_up_to_one_window_rows_are_those_of_packing_all_at_once(lengths: list[int], epochs: float, seed: int) -> None:
    with store(lengths) as encoded:
        assert_equal(
            whole(ConversationRows(encoded, range(encoded.n), ROW, seed, epochs)), pack_epochs(lengths, epochs, seed)
        )


@properties
@given(lengths_of, st.floats(0.1, 3.0), st.integers(0, 9), windows)
def test_every_conversation_once_an_epoch(lengths: list[int], epochs: float, seed: int, window: int) -> None:
    with store(lengths) as encoded:
        rows = ConversationRows(encoded, range(encoded.n), ROW, seed, epochs, window)
        packed = whole(rows)
        seen = []
        for tokens, pieces in zip(packed.tokens_BT, packed.lengths, strict=True):
            assert sum(pieces) <= ROW
            start = 0
            for length in pieces:
                item = int(tokens[start])
                assert set(tokens[start : start + length].tolist()) == {item}
                assert length == lengths[item]
                seen.append(item)
                start += length
        counts = np.bincount(seen, minlength=len(lengths))
        assert counts.min() >= int(epochs)
        assert counts.max() <= math.ceil(epochs)
        assert counts.sum() == sum(
            math.ceil(len(lengths) * min(1.0, epochs - epoch)) for epoch in range(math.ceil(epochs))
        )


@properties
@given(lengths_of, st.integers(0, 9), windows, st.randoms())
def test_rows_may_be_asked_for_in_any_order(lengths: list[int], seed: int, window: int, random) -> None:
    with store(lengths) as encoded:
        first = ConversationRows(encoded, range(encoded.n), ROW, seed, 2.0, window)
        expected = [first.row(i).tolist() for i in range(first.n_rows)]
        order = list(range(len(expected)))
        random.shuffle(order)
        endless = ConversationRows(encoded, range(encoded.n), ROW, seed, window=window)
        assert {i: endless.row(i).tolist() for i in order} == dict(enumerate(expected))


@properties
@given(lengths_of, st.integers(0, 9), windows, st.data())
def test_items_of_the_first_rows(lengths: list[int], seed: int, window: int, data: st.DataObject) -> None:
    with store(lengths) as encoded:
        rows = ConversationRows(encoded, range(encoded.n), ROW, seed, 2.0, window)
        n = data.draw(st.integers(0, rows.n_rows))
        found = Counter(int(i) for part in rows.items_of(n) for i in part)
        assert found == Counter(int(i) for number in range(n) for i in rows.row(number))
        with pytest.raises(IndexError):
            rows.row(rows.n_rows)


@properties
@given(st.lists(st.integers(1, ROW), min_size=2, max_size=40), st.integers(0, 9))
def test_rows_of_the_first_epoch(lengths: list[int], seed: int) -> None:
    with store(lengths) as encoded:
        once = ConversationRows(encoded, range(encoded.n), ROW, seed, 1.0, 7).n_rows
        assert ConversationRows(encoded, range(encoded.n), ROW, seed, window=7).rows_of_first_epoch() == once


def test_epochs_have_orders_of_their_own_in_windows_too() -> None:
    with store([3] * 40) as encoded:
        rows = ConversationRows(encoded, range(40), ROW, 1, 3.0, 8)
        epochs = [[int(i) for n in range(e * 10, e * 10 + 10) for i in rows.row(n)] for e in range(3)]
        assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 3
        assert max(abs(a - b) for a, b in zip(epochs[0][:8], range(8), strict=True)) > 8  # not within the file's start


@properties
@given(lengths_of, lengths_of, st.floats(0.05, 0.95), st.integers(1, 60))
def test_mixed_rows_follow_the_weights(one: list[int], two: list[int], share: float, n_rows: int) -> None:
    with store(one, two) as encoded:
        parts = [ConversationRows(encoded, group.items, ROW, 5) for group in encoded.groups]
        mixed = MixedRows(parts, [share, 1 - share], n_rows)
        packed = mixed.batch(0, n_rows, 0)
        from_one = [int(tokens[0]) < len(one) for tokens in packed.tokens_BT]
        for end in range(1, n_rows + 1):
            assert abs(sum(from_one[:end]) - share * end) <= 1
        assert mixed.rows_of_part == [sum(from_one), n_rows - sum(from_one)]
        used = mixed.used()
        assert sum(u.tokens for u in used.values()) == sum(map(sum, packed.lengths))
        assert sum(u.loss_tokens for u in used.values()) == packed.n_loss_tokens
        assert sum(u.conversations for u in used.values()) == sum(map(len, packed.lengths))


def test_pooled_groups_are_counted_apart_and_empty_ones_left_out() -> None:
    with store([4, 4], [], [8]) as encoded:
        mixed = MixedRows([ConversationRows(encoded, range(3), ROW, 0, 2.0)], [1], 2)
        assert {name: tuple(used) for name, used in mixed.used().items()} == {"g0": (4, 16, 8), "g2": (2, 16, 12)}


def test_batches_are_parts_of_the_whole() -> None:
    with store([5, 9, 3, 16, 2, 7, 8]) as encoded:
        rows = ConversationRows(encoded, range(encoded.n), ROW, 0, 2.0)
        mixed = MixedRows([rows], [1], rows.n_rows)
        everything = mixed.batch(0, rows.n_rows, 9)
        for start in range(rows.n_rows):
            assert_equal(mixed.batch(start, start + 1, 9), everything.rows(start, start + 1))
