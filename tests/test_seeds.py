"""Streams are named; permutations are the same on every machine and with every numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.seeds import derive, permutation, permuted


def test_a_stream_is_its_seed_and_names() -> None:
    assert derive(0, "a", 1) == derive(0, "a", "1")
    assert len({derive(0, "a", 1), derive(0, "a1"), derive(1, "a", 1), derive(0, "a", 2)}) == 4


def test_a_permutation_holds_every_index_once_and_is_pinned() -> None:
    assert sorted(permutation(100, 5).tolist()) == list(range(100))
    assert permutation(8, derive(7, "documents", "s", 0)).tolist() == [6, 3, 4, 7, 5, 2, 1, 0]


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_permuted_is_a_permutation_at_any_places(n: int, seed: int) -> None:
    whole = permuted(np.arange(n), n, seed)
    assert sorted(whole.tolist()) == list(range(n))
    places = np.array([n - 1, 0, n // 2])
    assert permuted(places, n, seed).tolist() == whole[places].tolist()


def test_permuted_spreads_every_stretch_over_everything() -> None:
    """Of 1,000 places in a row, each tenth of a million items gets about a hundred."""
    for seed in range(3):
        for start in (0, 500_000, 999_000):
            found = permuted(np.arange(start, start + 1000), 1_000_000, seed)
            assert np.bincount(found // 100_000, minlength=10).min() > 60
            assert np.corrcoef(np.arange(1000), found)[0, 1] < 0.15


def test_permuted_is_the_one_that_runs_were_made_with() -> None:
    """Golden: a change of this order changes the runs of large data sets and needs a new output version of sft."""
    assert permuted(np.arange(5), 1000, 7).tolist() == [500, 473, 337, 673, 166]
