"""Streams are named; permutations are the same on every machine and with every numpy."""

from thinkling.seeds import derive, permutation


def test_a_stream_is_its_seed_and_names() -> None:
    assert derive(0, "a", 1) == derive(0, "a", "1")
    assert len({derive(0, "a", 1), derive(0, "a1"), derive(1, "a", 1), derive(0, "a", 2)}) == 4


def test_a_permutation_holds_every_index_once_and_is_pinned() -> None:
    assert sorted(permutation(100, 5).tolist()) == list(range(100))
    assert permutation(8, derive(7, "documents", "s", 0)).tolist() == [6, 3, 4, 7, 5, 2, 1, 0]
