"""Names that have been taken."""

from thinkling.data.seen import SeenNames


def test_a_name_is_new_once() -> None:
    seen = SeenNames()
    assert [seen.add(name) for name in ("a", "b", "a")] == [False, False, True]


def test_a_name_that_is_taken_gets_the_number_of_its_record() -> None:
    seen = SeenNames()
    assert [seen.unique(name, i) for i, name in enumerate(("a", "a", "a#3", "a", "a"), start=1)] == [
        *("a", "a#2", "a#3", "a#4", "a#5")
    ]
    assert [seen.unique("a", 5), seen.unique("a", 5)] == ["a#5.1", "a#5.2"]


def test_few_of_many_new_names_are_taken_for_known_ones() -> None:
    seen = SeenNames()
    assert sum(seen.add(str(i)) for i in range(50_000)) == 0
    assert all(seen.add(str(i)) for i in range(50_000))
