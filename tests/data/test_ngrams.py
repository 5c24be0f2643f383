"""Hashes of runs of words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.ngrams import WordHasher, lengths_of, runs, windows

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


@given(WORDS, st.lists(st.sampled_from([1, 2, 3]), min_size=30, max_size=30), st.integers(1, 12))
def test_weighted_runs_are_windows_of_their_length(words: list[str], weights: list[int], weight: int) -> None:
    hasher, n = WordHasher(), len(words)
    lengths = lengths_of(np.array(weights[:n], np.int64), weight)
    found = runs(hasher(words), lengths)
    for i in range(n):
        wanted = next((k for k in range(1, n - i + 1) if sum(weights[i : i + k]) >= weight), 0)
        assert lengths[i] == wanted
        assert found[i] == (windows(hasher(words[i : i + wanted]), wanted)[0] if wanted else 0)
