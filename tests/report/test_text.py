import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.report.text import cut, megabytes, number, seconds, short, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred", "␛[31mred"),
        ("\0\r\x7f", "␀␍\u2421"),
        ("user\u202egnp.exe", "user⟨U+202E⟩gnp.exe"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("lone \ud800", "lone ⟨U+D800⟩"),
        ("λ → 数学 🙂", "λ → 数学 🙂"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_what_is_shown_can_be_written_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown


def test_cut_says_what_it_left_out() -> None:
    assert cut("abc", 3) == ("abc", "")
    assert cut("x" * 2500, 900) == ("x" * 900, "cut: 900 of 2,500 characters shown")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (48054, "48,054"),
        (99999, "99,999"),
        (430752, "431K"),
        (999_600, "1M"),
        (3_279_872, "3.28M"),
        (23_000_000_000_000, "23T"),
        (0.604, "0.604"),
    ],
)
def test_short(value: float, shown: str) -> None:
    assert short(value) == shown


def test_units() -> None:
    assert [seconds(7.75), seconds(145.8), seconds(7500)] == ["7.8 s", "2 min 26 s", "2 h 05 min"]
    assert [megabytes(555.8), megabytes(3100)] == ["556 MB", "3.1 GB"]
    assert [number(1234567), number(0.60582), number("x"), number(True)] == ["1,234,567", "0.6058", "x", "True"]
