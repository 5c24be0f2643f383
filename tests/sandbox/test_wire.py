"""What crosses the socket between a program and its tester: inert, and what it was."""

import collections
import json
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.sandbox.kinds import Malformed
from thinkling.sandbox.wire import Codec, Foreign

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.binary(max_size=3),
    st.text(st.characters(categories=["Cs"]), max_size=3), st.decimals(allow_nan=False), st.fractions(),
    st.complex_numbers(allow_nan=False), st.dates(), st.datetimes(), st.timedeltas(), st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 5)), st.just(...),
)  # fmt: skip
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(HASHABLE, max_size=3),
        st.builds(deque, st.lists(inner, max_size=3)),
        st.builds(OrderedDict, st.dictionaries(HASHABLE, inner, max_size=3)),
    ),
    max_leaves=8,
)


class Plain(Foreign):
    """A side that has no objects of its own."""

    def describe(self, value: Any) -> Any:
        raise AssertionError(f"{value!r} is not a plain value")

    def resolve(self, head: list[Any], children: list[Any]) -> Any:
        raise Malformed("there are no handles")


def send(*values: Any, to: Codec | None = None) -> list[Any]:
    nodes, places = Codec(0, Plain()).encode(values)
    text = json.dumps([nodes, places])
    return (to or Codec(1, Plain())).decode(*json.loads(text))


@given(VALUES)
@settings(deadline=None)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    (found,) = send(value)
    assert found == value
    assert type(found) is type(value)


def test_references_and_cycles_are_kept() -> None:
    inner = [1]
    loop: list[Any] = [inner, inner, (inner,)]
    loop.append(loop)
    found, again = send(loop, inner)
    assert found[0] is found[1] is found[2][0] is again
    assert found[3] is found


def test_deep_values_need_no_recursion() -> None:
    value: Any = ()
    for _ in range(100_000):
        value = (value,)
    (found,) = send(value)
    depth = 0
    while found:
        (found,), depth = found, depth + 1
    assert depth == 100_000


def test_long_integers_have_no_limit() -> None:
    assert send(10**20000, -(10**5000)) == [10**20000, -(10**5000)]


def test_a_shared_object_is_brought_up_to_date() -> None:
    one, other = Codec(0, Plain()), Codec(1, Plain())
    here = [1, {"a": 2}]
    (there,) = other.decode(*one.encode([here]))
    inner = there[1]
    there.append(3)
    inner["b"] = 4
    one.decode(*other.encode([]))
    assert here == [1, {"a": 2, "b": 4}, 3]
    here.clear()
    other.decode(*one.encode([None]))
    assert there == []


def test_what_nobody_else_holds_is_let_go() -> None:
    codec = Codec(1, Plain())
    kept, loose = send([1], [2], to=codec)
    del loose
    assert len(codec.release()) == 1
    assert kept == [1]
    nested = send([[[5]]], to=codec)[0][0]
    codec.release()
    assert len(codec.encode([])[0]) > 1, "the inner list is still shared"
    assert nested == [[5]]
    del kept, nested
    codec.release()
    assert codec.encode([])[0] == []


class _Int(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def test_a_subclass_is_sent_as_its_base() -> None:
    (found,) = send(_Int(3))
    assert type(found) is int
    assert found == 3
    point = collections.namedtuple("point", "x y")(1, 2)
    (found,) = send(point)
    assert (found.x, found) == (1, (1, 2))


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"), UserDict(a=1), defaultdict(list, a=[1]), Decimal("1.50"), Fraction(1, 3), bytearray(b"a"),
        [int, ValueError, list], {"a": 1}.keys(), slice(1, None), deque([1], 3),
    ],
)  # fmt: skip
def test_kinds(value: Any) -> None:
    assert send(value) == [value]


@pytest.mark.parametrize(
    ("nodes", "places"),
    [
        ([], [0]),
        ([["l", 0, [5]]], [0]),
        ([["l", "x", []]], [0]),
        ([["l"]], [0]),
        ([[]], [0]),
        ([["t", [0]]], [0]),
        ([["pickle", "x", []]], [0]),
        ([["handle", 0, None, True, []]], [0]),
        ([["yours", 0, []]], [0]),
        ([["type", "exec", []]], [0]),
        ([["named", "a b", ["x"], []]], [0]),
        ([["named", "P", ["x; import os"], [0]]], [0]),
        ([["i", "zz", []]], [0]),
        ([["d", 0, [1, 1]], ["l", 2, []]], [0]),
        ([["set", 0, [1]], ["l", 2, []]], [0]),
        ([["object", 0, "Missing", []]], [0]),
        ([["native", "os", "system", []]], [0]),
        ([["range", [1, 1, 1]], "x"], [0]),
        ([{}, ["deque", 0, "x", []]], [1]),
    ],
)
def test_what_no_honest_side_sends_is_malformed(nodes: list[Any], places: list[int]) -> None:
    with pytest.raises(Malformed):
        Codec(1, Plain()).decode(nodes, places)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(["l", "t", "d", "i", "set", "x", "named", "deque"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=6), st.lists(st.integers(-2, 6), max_size=2))
@settings(max_examples=500, deadline=None)
def test_any_message_is_decoded_or_malformed(nodes: list[Any], places: list[int]) -> None:
    try:
        found = Codec(1, Plain()).decode(nodes, places)
    except Malformed:
        return
    assert len(found) == len(places)
