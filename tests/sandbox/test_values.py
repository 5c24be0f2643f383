import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.sandbox.values import LONGEST, canonical

NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [0.0, -0.0, 1.0, 0.5, True, False, Fraction(1, 2), Fraction(2), Decimal("0.5"), Decimal(1), 1 + 0j, 2j]
    )
)
SCALARS = NUMBERS | st.none() | st.text(max_size=3) | st.binary(max_size=3)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_texts_are_equal_where_values_are(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


@given(VALUES)
def test_a_value_has_one_text(value: Any) -> None:
    assert canonical(value) == canonical(value)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([1, 2], (1, 2), False),
        ({1, 2}, frozenset({2, 1.0}), True),
        ({1: 2}.keys(), {1}, True),
        (Counter("aab"), {"b": 1, "a": 2}, True),
        (defaultdict(int, a=1), OrderedDict(a=1), True),
        (namedtuple("P", "x y")(1, 2), (1, 2), True),
        (bytearray(b"a"), b"a", True),
        ("1", 1, False),
        (b"a", "a", False),
        ("None", None, False),
        (0.1, Decimal("0.1"), False),
        (math.inf, Decimal("Infinity"), True),
        (math.nan, float("nan"), True),
        (deque([1]), deque([1]), True),
        (deque([1]), [1], False),
        (int, int, True),
        ([[]], [], False),
        ({"a:1": 2}, {"a": "1:2"}, False),
        ("[1,2]", [1, 2], False),
    ],
)
def test_pairs(one: Any, other: Any, equal: bool) -> None:
    assert (canonical(one) == canonical(other)) is equal


def test_a_long_value_is_a_digest() -> None:
    value = list(range(10**5))
    assert len(canonical(value)) < 100 < LONGEST
    assert canonical(value) == canonical([*value])
    assert canonical(value) != canonical([*value, 0])


def test_long_numbers_are_told_apart() -> None:
    assert canonical(10**5000) != canonical(10**5000 + 1)
    assert canonical(10**5000) == canonical(Decimal(10) ** 5000)
