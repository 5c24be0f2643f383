"""Damage: every kind changes a text, by a stated fraction, the same way for the same seed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.texts import prose
from thinkling.quality.damage import KINDS, damage

TEXT, OTHER = prose(random.Random(1), 12), prose(random.Random(2), 12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_a_text(kind: str) -> None:
    text = TEXT + "Section 12 costs 7+5.\n"
    done = [damage(kind, text, OTHER, random.Random(seed)) for seed in range(5)]
    assert all(one.kind == kind and 0 < one.fraction <= 1 for one in done)
    assert sum(one.text != text for one in done) >= 4
    assert damage(kind, text, OTHER, random.Random(3)) == done[3]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60), st.integers(0, 99))
def test_no_text_is_refused(kind: str, text: str, other: str, seed: int) -> None:
    assert isinstance(damage(kind, text, other, random.Random(seed)).text, str)


def test_symbols_of_a_protected_prefix_stay() -> None:
    text = "A1B+5C+9: 15 and 12"
    for seed in range(20):
        done = damage("symbols", text, "", random.Random(seed), protected=9)
        assert done.text.startswith("A1B+5C+9:")
        assert len(done.text) == len(text)


def test_order_keeps_the_words() -> None:
    done = damage("order", TEXT, OTHER, random.Random(0))
    assert sorted(done.text.split()) == sorted(TEXT.split())


def test_what_is_cut_is_a_stretch_of_the_text() -> None:
    done = damage("cut", TEXT, OTHER, random.Random(0))
    assert done.text in TEXT
    assert len(done.text) == len(TEXT) - int(len(TEXT) * done.fraction)
