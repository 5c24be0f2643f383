"""Surface statistics: a number each, of the text alone."""

from __future__ import annotations

import inspect
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.quality.texts import advertisement, prose
from thinkling.quality.surface import EXCERPT, NAMES, excerpt, measure


def named(text: str) -> dict[str, float]:
    return dict(zip(NAMES, measure(text), strict=True))


@given(st.text(max_size=300))
def test_any_text_has_all_numbers_and_they_are_finite(text: str) -> None:
    assert len(measure(text)) == len(NAMES)
    assert all(math.isfinite(value) for value in measure(text))


def test_nothing_but_the_text_is_asked_for() -> None:
    assert list(inspect.signature(measure).parameters) == ["text"]


def test_long_texts_are_read_at_their_beginning_middle_and_end() -> None:
    text = "b" * EXCERPT + "x" * EXCERPT + "m" * EXCERPT + "x" * EXCERPT + "e" * EXCERPT
    assert excerpt(text) == f"{'b' * EXCERPT}\n{'m' * EXCERPT}\n{'e' * EXCERPT}"
    assert excerpt("short") == "short"


def test_prose_and_an_advertisement_differ_where_they_should() -> None:
    rng = random.Random(0)
    good, bad = named(prose(rng)), named(advertisement(rng))
    for higher in ("grammar_words", "line_length", "connectives", "ended_lines"):
        assert good[higher] > bad[higher], higher
    for lower in ("exclamations", "selling", "capitals", "pipes", "runs", "pointers"):
        assert good[lower] < bad[lower], lower


def test_counts() -> None:
    found = named("Two words.\nTwo words.\n\n- item 7\n")
    assert found["repeated_lines"] == pytest.approx(1 / 3)
    assert found["bulleted_lines"] == pytest.approx(1 / 3)
    assert found["digits"] == pytest.approx(1 / len("Two words.\nTwo words.\n\n- item 7\n"))


def test_a_damaged_calculation_repeats_less_of_what_it_starts_from() -> None:
    right, wrong = named("sum A1B+5C+9:B+5=6C+9=15.15\n"), named("sum A1B+5C+9:Q+5=6C-3=15.17\n")
    for name in ("echo_pairs", "echo_triples", "end_repeats"):
        assert right[name] > wrong[name], name
