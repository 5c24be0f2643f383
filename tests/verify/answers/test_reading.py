"""Forms of answers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.verify.answers.forms import (
    Assignment,
    Based,
    Equation,
    Expression,
    Form,
    Infinity,
    Interval,
    Items,
    Letter,
    Mapping,
    Matrix,
    Quantity,
    Ratio,
    Union,
    Words,
)
from thinkling.verify.answers.notation import plain
from thinkling.verify.answers.numbers import Number, Unreadable
from thinkling.verify.answers.reading import choice, read


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1,234", Number),
        ("50%", Number),
        ("five million", Number),
        (r"18 \text{ (or maybe 19)}", Words),
        ("18 is wrong", Words),
        ("18 squared", Words),
        ("about $18", Quantity),
        ("at least 18", Words),
        ("5 million", Number),
        (r"\sqrt{2}", Expression),
        ("2xy", Expression),
        ("e", Expression),
        ("x", Letter),
        ("(B)", Letter),
        (r"\text{odd}", Words),
        ("Evelyn", Words),
        ("4343_6", Based),
        ("5:6", Ratio),
        ("-∞", Infinity),
        ("$5", Quantity),
        (r"12\sqrt{13}\text{ feet}", Quantity),
        ("5 apples", Quantity),
        ("20 °C", Quantity),
        ("x = 5", Assignment),
        ("f(x) = 2x", Assignment),
        ("x = 1, y = 2", Mapping),
        ("x = 1 or x = 2", Items),
        (r"1 \pm \sqrt{2}", Items),
        ("{1, 2}", Items),
        ("(1, 2)", Items),
        ("(1, 2]", Interval),
        ("x < 3", Interval),
        (r"x \in [1, 2]", Interval),
        (r"\{x : x > 2\}", Interval),
        ("x > 2 and x < 3", Interval),
        ("x < 2 or x > 3", Union),
        (r"(-\infty, 2) \cup (3, 4)", Union),
        (r"\mathbb{R}", Interval),
        (r"\emptyset", Items),
        ("x + y = 5", Equation),
        ("2x < y", Equation),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", Matrix),
    ],
)
def test_kinds(text: str, kind: type) -> None:
    assert isinstance(read(plain(text)), kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "(1, 2",
        "{1, 2]}",
        r"\frac{1}{",
        "1,,2",
        "x =",
        "> 17",
        "1 < x > 3",
        r"18 \neq 19",
        "17 = 18",
        "0.5 = 60%",
        r"\frac{18}{0}",
        "?",
        "9_8",
        "18.5.2",
        "18-",
        ",".join("1" * 51),
        "(" * 13 + "1,2" + ")" * 13,
        r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}",
    ],
)
def test_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        read(plain(text))


def test_structures_in_detail() -> None:
    one, two = (Number(Fraction(n), 0, 1) for n in (1, 2))
    assert read("{1, 2}") == Items("set", (one, two))
    assert read("1 and 2") == Items("list", (one, two))
    assert read("1, 2, and 1") == Items("list", (one, two, one))
    assert read("(1, 2]") == Interval(one, two, True, False)
    assert read("2 ≥ x > 1") == Interval(one, two, True, False, "x")
    assert read("x = 1 or x = 2") == Items("list", (one, two))
    assert read("y = 2, x = 1") == Mapping(("y", "x"), (two, one))
    assert read("\\{1, \\pm 2\\}".replace("\\pm", "±")) == Items("set", (one, two, Number(Fraction(-2), 0, 1)))
    assert read("2 = x") == Assignment("x", two, "2 = x")
    assert read("3 - 1 = 2") == two


def test_thousands() -> None:
    assert isinstance(read("81,256"), Number)
    assert isinstance(read("81,256", thousands=False), Items)
    assert isinstance(read("(1,234)"), Items)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ('"(B)" 12', "B"),
        ("B. 12", "B"),
        ("Option B", "B"),
        ("(A) or (B)", None),
        ("(A), (B)", None),
        ("A or B", None),
        ("not B", None),
        ("AB", None),
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    assert choice(text) == letter


@given(st.text(alphabet=r"0123456789xyAB+-*/^=<>≤≥±∪∞%$°.,;: (){}[]\"_!andor\frac", max_size=30))
def test_any_text_is_read_or_unreadable(text: str) -> None:
    form: Form | None
    try:
        form = read(plain(text))
    except Unreadable:
        form = None
    assert form is None or form == read(plain(text))
