"""Symbols are replaced by others of their own class, as many as asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.symbols import replace_symbols

CLASSES = ("0123456789", "ab", "+-*")


@given(st.text("0123456789ab+-* :x", max_size=40), st.integers(0, 99), st.floats(0, 1))
def test_a_symbol_becomes_another_of_its_class_and_structure_stays(text: str, seed: int, fraction: float) -> None:
    changed = replace_symbols(text, random.Random(seed), fraction, CLASSES)
    assert len(changed) == len(text)
    for before, after in zip(text, changed, strict=True):
        own = next((one for one in CLASSES if before in one), before)
        assert after in own
    symbols = sum(any(c in one for one in CLASSES) for c in text)
    assert abs(sum(a != b for a, b in zip(text, changed, strict=True)) - fraction * symbols) <= 1


def test_a_whole_number_is_met_exactly_and_others_on_average() -> None:
    rng = random.Random(0)
    assert sum(a != b for a, b in zip("1" * 8, replace_symbols("1" * 8, rng, 0.25, CLASSES), strict=True)) == 2
    counts = [sum(c != "1" for c in replace_symbols("1" * 3, rng, 0.5, CLASSES)) for _ in range(2000)]
    assert sum(counts) / len(counts) == pytest.approx(1.5, abs=0.05)
