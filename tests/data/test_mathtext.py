"""One form for the ways in which mathematics is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.mathtext import one_form, tokens

SAME = [
    (r"$x^{2}+1$", "x^2 + 1", "x² + 1", r"\(X^2+1\)"),
    (r"\frac{1}{2}", r"\dfrac12", r"\tfrac{ 1 }{ 2 }", "1/2", "½"),
    (r"\frac{\frac{a}{b}}{c}", r"\dfrac{\tfrac{a}{b}}{c}", "a/b/c"),
    (r"\left( a \right) \cdot b", r"(a)\times b", "(a) * b", "(a) · b", r"\big(a\big) \, \ast \; b"),
    (r"a \leq b \neq c", r"a \le b \ne c", "a ≤ b ≠ c"),
    (r"\text{Let } \mathrm{area} = \pi", "let area = π", r"Let\ area\,=\,\pi"),
    (r"\begin{align*} a &= b \\ c &= d \end{align*}", "a = b c = d", "A = B\n\nC = D"),
    (r"1{,}000\%", "1,000 %", "1\u200b,000%"),
    (r"\binom{5}{3}", r"\dbinom{5}{3}"),
    ("5 − 3", "5-3", "5 – 3", "5\u00a0-\u00a03"),
]
DIFFERENT = [("a+b", "a-b"), ("12", "1 2"), ("ab", "a b"), (r"\frac{1}{2}", "12"), ("(a+b)*c", "a+b*c"), ("a<b", "a≤b")]


@pytest.mark.parametrize("forms", SAME)
def test_ways_of_typing_one_thing(forms: tuple[str, ...]) -> None:
    assert {tuple(tokens(form).tokens) for form in forms} == {tuple(tokens(forms[0]).tokens)}


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_things_stay_different(a: str, b: str) -> None:
    assert tokens(a).tokens != tokens(b).tokens


def test_joined_says_where_a_word_goes_on() -> None:
    found = tokens("A1B+5 x_1")
    assert found.tokens == ["a", "1", "b", "+", "5", "x", "1"]
    assert found.joined == [True, True, False, True, False, True, False]


@given(st.text(max_size=80))
def test_any_text_has_a_form_and_the_form_is_case_folded(text: str) -> None:
    assert all(token == token.casefold() for token in tokens(text).tokens)


@given(st.text(alphabet="\\frac{}12 $dt", max_size=60))
def test_broken_latex_ends(text: str) -> None:
    assert isinstance(one_form(text), str)
