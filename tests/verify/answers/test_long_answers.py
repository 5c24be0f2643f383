"""References of ten thousand characters that a search took minutes for."""

from __future__ import annotations

import pytest

from thinkling.verify.answers.notation import plain


@pytest.mark.timeout(20)
@pytest.mark.parametrize("stop", [":", ";", ",", ".", " .", "\\\\"])
def test_a_long_run_of_stops_inside_did_not_end(stop: str) -> None:
    assert plain(f"0.9{stop * 10_000}x").endswith("x")


@pytest.mark.parametrize("text", ["7.", "7 ,;", "7\\\\", "7\\"])
def test_stops_at_the_end_are_taken_away(text: str) -> None:
    assert plain(text) == "7"
