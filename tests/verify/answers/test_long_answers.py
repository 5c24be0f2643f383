"""References and replies of ten thousand characters that a search took minutes for."""

from __future__ import annotations

import pytest

from thinkling.verify.answers.boxes import boxed
from thinkling.verify.answers.notation import plain


@pytest.mark.timeout(20)
@pytest.mark.parametrize("stop", [":", ";", ",", ".", " .", "\\\\"])
def test_a_long_run_of_stops_inside_did_not_end(stop: str) -> None:
    assert plain(f"0.9{stop * 10_000}x").endswith("x")


@pytest.mark.parametrize("text", ["7.", "7 ,;", "7\\\\", "7\\"])
def test_stops_at_the_end_are_taken_away(text: str) -> None:
    assert plain(text) == "7"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("gap", ["(", "$ ", "\r\n", " ", "*"])
def test_a_long_gap_after_a_box_did_not_end(gap: str) -> None:
    found = boxed(f"So $\\boxed{{81}}${gap * 5_000}; {gap * 5_000}Ȟ")
    assert found is not None
    assert found.answers == ("81",)


def test_a_second_answer_after_a_short_gap_is_still_named() -> None:
    found = boxed("$\\boxed{3}$ , or  $5$")
    assert found is not None
    assert found.answers == ("3", "5")
