"""One spelling for many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.verify.answers.notation import condensed, latex, plain


@pytest.mark.parametrize(
    ("written", "notation"),
    [
        ("$18$", "18"),
        ("$18", "$18"),
        (r"\$18", "$18"),
        (r"\(\frac 34\)", r"\frac{3}{4}"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("sqrt(2)", r"\sqrt{2}"),
        ("√2", r"\sqrt{2}"),
        (r"10,\!080", "10080"),
        (r"1\,234", "1234"),
        ("1{,}234", "1234"),
        (r"x \leq 3", "x ≤ 3"),
        ("x <= 3", "x ≤ 3"),
        (r"30^{\circ}", "30°"),
        (r"30^\circ", "30°"),
        (r"5\text{ cm}^2", '5" cm"^2'),
        (r"\mathrm{e}^{2}", "e^{2}"),
        (r"\left( 1, 2 \right]", "( 1, 2 ]"),
        ("cm²", "cm^{2}"),
        ("3x10^8", r"3\times 10^8"),
        ("-inf", "-∞"),
        ("2 pi", r"2 \pi"),
        (r"50\%", "50%"),
        ("−7", "-7"),
        ("7.", "7"),
        (r"\textbf{(B)}", '"(B)"'),
    ],
)
def test_plain(written: str, notation: str) -> None:
    assert plain(written) == notation


@pytest.mark.parametrize(
    ("notation", "back"),
    [
        ("0.5x", r"\frac{05}{10}x"),
        ("x^0.5", r"x^{\frac{05}{10}}"),
        ("x ≤ ∞", r"x \le  \infty "),
        ("sin x", r"\sin x"),
        (r"\arcsin x", r"\arcsin x"),
    ],
)
def test_latex(notation: str, back: str) -> None:
    assert latex(notation) == back


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("2 s", "2s", True),
        (r"288 \pi", r"288\pi", True),
        ('8" p.m"', "8 p.m", True),
        ("1 1/2", "11/2", False),
        ("1, 234", "1,234", False),
        ("a b", "ab", False),
    ],
)
def test_condensed(one: str, other: str, equal: bool) -> None:
    assert (condensed(one) == condensed(other)) is equal


@given(st.text(max_size=60))
def test_anything_has_a_notation(text: str) -> None:
    assert "\n" not in plain(text)
    latex(plain(text))
    assert condensed(condensed(plain(text))) == condensed(plain(text))
