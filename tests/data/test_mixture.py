"""The mixture: within one row of target at every step, and the same rows whoever computes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.mixture import MixtureLoader, MixturePhase, assign, check_epochs
from thinkling.data.packing import Epochs
from thinkling.data.prefetch import Prefetcher
from thinkling.data.shards import MemorySource
from thinkling.errors import UserError

PHASES = [
    MixturePhase(n_rows=16, sequence_length=32, weights={"a": 0.5, "b": 0.3, "c": 0.2}),
    MixturePhase(n_rows=24, sequence_length=32, weights={"c": 1, "a": 3}),
    MixturePhase(n_rows=12, sequence_length=64, weights={"a": 1 / 3, "b": 2 / 3}, batch_size=4),
]


def memory(name: str, lengths: Sequence[int]) -> MemorySource:
    """Documents whose every token tells where it stands: 10^6 · first letter + 1000 · document + place."""
    return MemorySource(name, [10**6 * ord(name[0]) + 1000 * i + np.arange(n) for i, n in enumerate(lengths)])


def sources() -> dict[str, MemorySource]:
    rng = np.random.default_rng(3)
    lengths = {"a": rng.integers(1, 30, 19), "b": rng.integers(1, 100, 7), "c": rng.integers(10, 33, 6)}
    return {name: memory(name, n.tolist()) for name, n in lengths.items()}


def loader(**changes: object) -> MixtureLoader:
    settings = {"phases": PHASES, "sources": sources(), "seed": 11, "batch_size": 8, "micro_batch_size": 2} | changes
    return MixtureLoader(**settings)  # type: ignore[arg-type]


def deviation(rows: np.ndarray, weights: list[Fraction]) -> Fraction:
    """Largest distance of any source from its target after any row, exact."""
    total, counts, worst = sum(weights), [0] * len(weights), Fraction(0)
    for n, i in enumerate(rows.tolist(), start=1):
        counts[i] += 1
        worst = max(worst, *(abs(count - n * weight / total) for count, weight in zip(counts, weights, strict=True)))
    return worst


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=40), st.integers(1, 300))
def test_within_one_row_of_target_at_every_step(weights: list[int], n_rows: int) -> None:
    weights = [Fraction(weight) for weight in weights]
    rows = assign(weights, n_rows)
    assert deviation(rows, weights) <= 1 - Fraction(1, 2 * len(weights) - 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=40), st.integers(1, 300))
def test_float_weights_are_taken_exactly(weights: list[float], n_rows: int) -> None:
    assert deviation(assign(weights, n_rows), [Fraction(weight) for weight in weights]) < 1


def test_thirds_over_a_million_rows() -> None:
    rows = assign([1 / 3, 1 / 3, 1 / 3], 10**6)
    n = np.arange(1, 10**6 + 1)
    for i in range(3):
        assert np.abs(3 * np.cumsum(rows == i) - n).max() < 3


def test_one_source_zero_weights_and_no_rows() -> None:
    assert assign([0.7], 3).tolist() == [0, 0, 0]
    assert assign([0, 2, 0], 3).tolist() == [1, 1, 1]
    assert 1 not in assign([1, 0, 1], 100)
    assert assign([1, 2], 0).shape == (0,)


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -0.5], [float("nan"), 1], [float("inf"), 1]])
def test_weights_that_mean_nothing(weights: list[float]) -> None:
    with pytest.raises(UserError, match="weights"):
        assign(weights, 10)


def rows_of(batches: list) -> list[tuple]:
    """Rows of micro-batches laid end to end, comparable."""
    return [
        (batch.tokens_BT[b].tobytes(), batch.labels_BT[b].tobytes(), batch.lengths[b])
        for batch in batches
        for b in range(len(batch.lengths))
    ]


def test_order_is_independent_of_world_size_and_micro_batches() -> None:
    one = loader(micro_batch_size=None)
    assert one.n_steps == 2 + 3 + 3
    expected = [rows_of(one.batches(step)) for step in range(one.n_steps)]
    assert [len(rows) for rows in expected] == [8] * 5 + [4] * 3
    for world_size in (1, 2, 4):
        for micro_batch_size in (1, 2, 3):
            ranks = [
                loader(rank=r, world_size=world_size, micro_batch_size=micro_batch_size) for r in range(world_size)
            ]
            for step in reversed(range(one.n_steps)):  # any step first: nothing depends on the ones before
                found = [row for rank in ranks for row in rows_of(rank.batches(step))]
                assert found == expected[step]


@pytest.mark.parametrize(("depth", "workers"), [(0, 1), (1, 1), (3, 1), (3, 3)])
def test_order_is_independent_of_prefetching(depth: int, workers: int) -> None:
    reference, source = loader(), loader()
    with Prefetcher(source.batches, source.n_steps, depth, workers) as batches:
        for step in [*range(source.n_steps), 0, 5, 4, 5]:  # also what no prefetcher foresees
            assert rows_of(batches(step)) == rows_of(reference.batches(step))


def test_prefetcher_raises_what_the_loader_raised() -> None:
    source = loader()
    with Prefetcher(source.batches, source.n_steps + 1) as batches, pytest.raises(IndexError):
        batches(source.n_steps)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_independent_of_torch_workers(workers: int) -> None:
    data = pytest.importorskip("torch.utils.data")
    reference = loader()
    found = data.DataLoader(loader(), batch_size=None, num_workers=workers, collate_fn=list)
    assert [rows_of(batches) for batches in found] == [rows_of(reference.batches(s)) for s in range(len(reference))]


def test_order_is_the_one_that_runs_were_made_with() -> None:
    """Golden: a change of it changes every run's data and needs a new code version of pretrain."""
    digest = hashlib.sha256()
    for batches in loader():
        for batch in batches:
            digest.update(batch.tokens_BT.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "b6d108997f19e4c1"


def test_every_document_once_an_epoch_over_all_phases() -> None:
    """Though phases differ in weights and row length, a source's tokens are its epochs' permutations end to end."""
    run = loader(micro_batch_size=None)
    stream: dict[str, list[int]] = {name: [] for name in "abc"}
    for batch in (batch for step in run for batch in step):
        for tokens_T, row in zip(batch.tokens_BT, batch.lengths, strict=True):
            stream[chr(tokens_T[0] // 10**6)] += tokens_T[: sum(row)].tolist()
    for name, source in sources().items():
        epochs, size = Epochs(source, 11), int(source.lengths.sum())
        found = [stream[name][start : start + size] for start in range(0, len(stream[name]), size)]
        assert len(found) >= 2, "the test wants a second epoch"
        for epoch, tokens in enumerate(found):
            expected = [t for i in epochs.order(epoch) for t in source.document(int(i)).tolist()]
            assert tokens == expected[: len(tokens)]
        assert run.usage()[name]["tokens"] == len(stream[name])


def test_usage_without_data_equals_what_the_batches_hold() -> None:
    class Unreadable(MemorySource):
        def document(self, i: int) -> np.ndarray:
            raise AssertionError("a token was read")

    blind = {name: Unreadable(name, [np.empty(n) for n in s.lengths]) for name, s in sources().items()}
    usage = loader(sources=blind).usage()
    run = loader()
    assert usage == run.usage()
    n_tokens = sum(sum(sum(row) for row in b.lengths) for step in run for b in step)
    n_places = sum(b.tokens_BT.size for step in run for b in step)
    assert sum(u["tokens"] for u in usage.values()) == n_tokens
    assert sum(u["padding"] for u in usage.values()) == n_places - n_tokens
    assert sum(u["rows"] for u in usage.values()) == sum(phase.n_rows for phase in PHASES)
    assert [u["rows"] for u in loader().usage(phase=1).values()] == [18, 6]
    for name, used in usage.items():
        assert used["epochs"] == pytest.approx(used["tokens"] / run._sources[name].lengths.sum(), abs=0.5)


def test_epochs_add_up_to_whole_ones() -> None:
    """7 documents of a row each: after 7 rows one epoch to the last bit, in however many phases."""
    source = {"s": memory("s", [8] * 7)}
    phases = [MixturePhase(1, 8, {"s": 1})] * 21
    usage = MixtureLoader(phases, source, 0, 1).usage()
    assert usage["s"] == {"rows": 21, "tokens": 168, "padding": 0, "epochs": 3.0}
    check_epochs(usage, {"s": 3, "other": 1})
    with pytest.raises(UserError, match=r"'s': the run needs 3 epochs.*max_epochs 2\.9"):
        check_epochs(usage, {"s": 2.9})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": [MixturePhase(8, 32, {"z": 1})]}, "'z'"),
        ({"phases": [MixturePhase(9, 32, {"a": 1})]}, "rows, 9, is not a multiple of the 8 rows per step"),
        ({"phases": [MixturePhase(8, 1, {"a": 1})]}, "sequence_length is 1; it must be at least 2"),
        ({"phases": [MixturePhase(8, 32, {"a": 0})]}, "weights"),
        ({"world_size": 3}, "3 processes"),
    ],
)
def test_what_does_not_fit_together(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        loader(**changes)


def test_steps_beyond_the_end() -> None:
    run = loader()
    for step in (-1, run.n_steps):
        with pytest.raises(IndexError):
            run.batches(step)
