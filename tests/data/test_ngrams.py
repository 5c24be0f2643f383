"""Hashes of runs of words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.ngrams import WordHasher, windows

WORDS = st.lists(st.sampled_from(["a", "b", "c", "ä"]), max_size=30)


@given(WORDS, WORDS, st.integers(1, 6))
def test_two_runs_have_one_hash_exactly_where_their_words_are_equal(a: list[str], b: list[str], size: int) -> None:
    hasher = WordHasher()
    hashes_a, hashes_b = windows(hasher(a), size), windows(hasher(b), size)
    assert len(hashes_a) == max(0, len(a) - size + 1)
    for i, one in enumerate(hashes_a):
        for j, other in enumerate(hashes_b):
            assert (one == other) == (a[i : i + size] == b[j : j + size])


def test_hashes_are_those_of_every_run_and_machine() -> None:
    first = WordHasher()
    first(["something", "else"])
    assert first(["word"]).tolist() == WordHasher()(["word"]).tolist() == [0x958EC7D727CFA44A]
    assert windows(WordHasher()(["a", "b"]), 2).dtype == np.uint64
