"""Best-fit packing: each document once per epoch, whole if it fits, in no more rows than TRL's best-fit packing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thinkling.data import best_fit as module
from thinkling.data.best_fit import BestFitRows, best_fit
from thinkling.data.mixture import MixtureLoader, MixturePhase, waste
from thinkling.data.packing import Cursor, Epochs, Piece, SourceRows, pack_rows
from thinkling.data.shards import MemorySource
from thinkling.labels import IGNORE

properties = settings(max_examples=60, deadline=None)
lengths_of_documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)
row_lengths = st.integers(2, 48)
seeds = st.integers(0, 2**40)


def memory(lengths: Sequence[int], name: str = "s") -> MemorySource:
    """Documents in which token 1000 · d + t is at position t of document d."""
    return MemorySource(name, [1000 * i + np.arange(n) for i, n in enumerate(lengths)])


def tokens_of(source: MemorySource, pieces: Sequence[Piece]) -> Counter[int]:
    return Counter(t for p in pieces for t in source.document(p.document)[p.start : p.stop].tolist())


def stream_before(source: MemorySource, seed: int, ordinal: int) -> Counter[int]:
    """The tokens of the first `ordinal` documents of the stream."""
    epochs = Epochs(source, seed)
    documents = [int(epochs.order(o // source.n_documents)[o % source.n_documents]) for o in range(ordinal)]
    return tokens_of(source, [Piece(d, 0, int(source.lengths[d])) for d in documents])


@pytest.fixture(params=[3, 8, module.LOOK_AHEAD])
def look_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "LOOK_AHEAD", request.param)
    return request.param


@properties
@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(30, 60))
def test_best_fit_puts_each_item_in_the_row_with_least_room(lengths: list[int], sequence_length: int) -> None:
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else sequence_length) - length)
    row_of, n_rows = best_fit(np.array(lengths), sequence_length)
    filled = np.bincount(row_of, weights=lengths, minlength=n_rows).tolist()
    assert sorted(sequence_length - room for room in rooms) == sorted(filled)


@properties
@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(50, 70))
def test_any_two_rows_have_more_than_one_rows_tokens(lengths: list[int], sequence_length: int) -> None:
    """Hence at least half of all rows but one is filled, whatever the lengths."""
    row_of, n_rows = best_fit(np.array(lengths), sequence_length)
    filled = sorted(np.bincount(row_of, weights=lengths, minlength=n_rows).tolist())
    assert filled[-1] <= sequence_length
    assert n_rows == 1 or filled[0] + filled[1] > sequence_length


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(4, 48))
def test_no_more_rows_than_trl(lengths: list[int], sequence_length: int) -> None:
    """TRL's `bfd` drops what is longer than a row, and its `bfd_split` packs all tokens, as we do."""
    trl = pytest.importorskip("trl.data_utils")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def rows_of_trl(kept: list[int], strategy: str) -> int:
        data = datasets.Dataset.from_dict({"input_ids": [[1] * n for n in kept]})
        return len(trl.pack_dataset(data, sequence_length, strategy, {"batch_size": len(kept)}))

    segments = [min(sequence_length, n - t) for n in lengths for t in range(0, n, sequence_length)]
    assert best_fit(np.array(segments), sequence_length)[1] <= rows_of_trl(lengths, "bfd_split")
    short = [n for n in lengths if n <= sequence_length]
    assume(short)
    assert best_fit(np.array(short), sequence_length)[1] <= rows_of_trl(short, "bfd")


@settings(max_examples=40, deadline=None)
@given(
    lengths=lengths_of_documents, seed=seeds, phases=st.lists(st.tuples(row_lengths, st.integers(0, 12)), max_size=5)
)
@pytest.mark.parametrize("look_ahead", [3, 8, 16_384])
def test_every_token_once_per_epoch_across_changes_of_row_length(
    look_ahead: int, lengths: list[int], seed: int, phases: list[tuple[int, int]]
) -> None:
    source, cursor, found = memory(lengths), Cursor(), Counter[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOOK_AHEAD", look_ahead)
        for sequence_length, n_rows in phases:
            rows = BestFitRows(source, seed, sequence_length, cursor)
            pieces = [rows.row(i) for i in range(n_rows)]
            assert all(0 < sum(p.stop - p.start for p in row) <= sequence_length for row in pieces)
            found += (phase := tokens_of(source, [piece for row in pieces for piece in row]))
            assert rows.tokens(n_rows) == phase.total()
            cursor = rows.cursor_after(n_rows)
    # All documents before the cursor are in the rows or pending: no token is lost or repeated.
    assert cursor.offset == 0 or not phases
    assert found + tokens_of(source, cursor.pending) == stream_before(source, seed, cursor.ordinal)
    epochs = Epochs(source, seed)
    assert epochs.tokens_before(cursor) == found.total()
    passed = sum(n / lengths[t // 1000] for t, n in found.items()) / len(lengths)
    assert float(epochs.passed(cursor)) == pytest.approx(passed, abs=1e-6)


@properties
@given(lengths_of_documents, row_lengths, seeds, st.integers(1, 40))
def test_continues_from_sequential_packing(lengths: list[int], sequence_length: int, seed: int, n_rows: int) -> None:
    source = memory(lengths)
    first, cursor = SourceRows(source, seed, 7), SourceRows(source, seed, 7).cursor_after(n_rows)
    rows = BestFitRows(source, seed, sequence_length, cursor)
    last = rows.cursor_after(n_rows)
    pieces = [p for i in range(n_rows) for p in [*first.row(i), *rows.row(i)]]
    assert tokens_of(source, [*pieces, *last.pending]) == stream_before(source, seed, last.ordinal)


@properties
@given(lengths_of_documents, row_lengths, seeds)
def test_no_document_is_postponed_twice(lengths: list[int], sequence_length: int, seed: int) -> None:
    """A piece that a window postpones is in the next window's rows."""
    rows = BestFitRows(memory(lengths), seed, sequence_length)
    rows.cursor_after(60)
    for start, after in pairwise(rows._starts):
        placed = Counter(piece for i in range(start.row, after.row) for piece in rows.row(i))
        assert Counter(start.carried) <= placed


@properties
@given(lengths_of_documents, row_lengths, seeds)
def test_documents_that_fit_stay_whole_and_longer_ones_fill_whole_rows(
    lengths: list[int], sequence_length: int, seed: int
) -> None:
    rows = BestFitRows(memory(lengths), seed, sequence_length)
    for i in range(30):
        for piece in (row := rows.row(i)):
            length = lengths[piece.document]
            assert piece.start % sequence_length == 0
            assert piece.stop == min(piece.start + sequence_length, length)
            assert piece.stop == length or len(row) == 1


@pytest.mark.parametrize("sequence_length", [16, 64])
def test_rows_do_not_depend_on_the_row_asked_for_first(look_ahead: int, sequence_length: int) -> None:
    """A resumed run asks for row i first, and threads ask in any order."""
    source = memory(np.random.default_rng(0).integers(1, 60, 70).tolist())
    whole = BestFitRows(source, 5, sequence_length)
    expected = [whole.row(i) for i in range(200)]
    for first in (0, 1, 57, 199):
        resumed = BestFitRows(source, 5, sequence_length)
        assert [resumed.row(i) for i in range(first, 200)] == expected[first:]
        assert resumed.row(3) == expected[3]
    assert expected != [BestFitRows(source, 6, sequence_length).row(i) for i in range(200)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AHEAD", 16)
    rows = BestFitRows(memory(np.random.default_rng(0).integers(1, 60, 1000).tolist()), 5, 64)
    rows.cursor_after(2000)
    assert len(rows._cache) <= 2
    assert all(sum(p.stop - p.start for p in start.carried) <= 64 for start in rows._starts)
    assert max(len(rows._window(n).documents) for n in range(20)) <= 3 * 16


def test_rows_of_a_window_are_in_random_order() -> None:
    """Otherwise training would see all long documents first."""
    lengths = np.random.default_rng(1).integers(1, 65, 4000)
    rows = BestFitRows(memory(lengths.tolist()), 0, 64)
    longest = [max(p.stop - p.start for p in rows.row(i)) for i in range(1500)]
    assert abs(np.corrcoef(longest, np.arange(1500))[0, 1]) < 0.1


def test_labels_predict_each_token_but_the_first_exactly_once() -> None:
    lengths = [5, 70, 31, 8, 64, 1, 129]
    source = memory(lengths)
    rows = BestFitRows(source, 0, 32)
    n_rows = 40
    batch = pack_rows([(source, rows.row(i)) for i in range(n_rows)], 32)
    has_loss = batch.labels_BT != IGNORE
    assert (batch.labels_BT[has_loss] == batch.tokens_BT[has_loss] + 1).all()
    tokens = tokens_of(source, [p for i in range(n_rows) for p in rows.row(i)])
    last_tokens = {1000 * d + n - 1 for d, n in enumerate(lengths)}
    expected = sum(n for t, n in tokens.items() if t not in last_tokens)
    assert batch.n_loss_tokens == expected


@pytest.mark.parametrize("sequence_length", [512, 8192])
def test_small_and_large_sources_have_little_padding(sequence_length: int) -> None:
    rng = np.random.default_rng(2)
    documents = [np.zeros(n, np.int64) for n in rng.lognormal(5.5, 1.0, 400).astype(int) + 1]
    phases = [MixturePhase(320, sequence_length, {"s": 1}, best_fit=True)]
    best = MixtureLoader(phases, {"s": MemorySource("s", documents)}, 0, 8).usage()["s"]
    plain = MixtureLoader([MixturePhase(320, sequence_length, {"s": 1})], {"s": MemorySource("s", documents)}, 0, 8)
    assert waste(best) < 0.005
    assert waste(best) < waste(plain.usage()["s"])


def test_order_is_independent_of_ranks_and_threads() -> None:
    rng = np.random.default_rng(4)
    sources = {name: memory(rng.integers(1, 90, 25).tolist(), name) for name in "ab"}
    phases = [
        MixturePhase(16, 32, {"a": 0.7, "b": 0.3}, best_fit=True),
        MixturePhase(12, 64, {"a": 1, "b": 2}, batch_size=4, best_fit=True),
    ]

    def rows(rank: int, world_size: int, steps: Sequence[int]) -> dict[int, list[tuple]]:
        loader = MixtureLoader(phases, sources, 3, 8, rank, world_size, micro_batch_size=2)
        return {
            step: [(t.tobytes(), n) for b in loader.batches(step) for t, n in zip(b.tokens_BT, b.lengths, strict=True)]
            for step in steps
        }

    whole = rows(0, 1, range(5))
    for steps in ([4, 3, 2, 1, 0], [2, 3, 4]):
        ranks = [rows(rank, 4, steps) for rank in range(4)]
        assert {step: [row for rank in ranks for row in rank[step]] for step in steps} == {s: whole[s] for s in steps}


def test_sequential_packing_cannot_continue_from_best_fit() -> None:
    source = memory([5, 6, 7, 8])
    cursor = BestFitRows(source, 0, 8).cursor_after(1)
    assert cursor.pending
    with pytest.raises(ValueError, match="cannot continue from best-fit"):
        SourceRows(source, 0, 8, cursor)


def test_order_is_the_one_that_runs_were_made_with() -> None:
    """Golden: a change of this order changes the data of runs with best fit and needs a new version of pretrain."""
    rows = BestFitRows(memory([9, 3, 3, 5, 20, 2, 6, 4], "code"), 7, 12)
    expected = [[(4, 0, 12)], [(6, 0, 6), (3, 0, 5)], [(7, 0, 4), (4, 12, 20)], [(1, 0, 3), (0, 0, 9)]]
    assert [rows.row(i) for i in range(4)] == expected
