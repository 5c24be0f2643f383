"""Literal numbers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.verify.answers.numbers import (
    MOST_DIGITS,
    Number,
    Unreadable,
    finite_decimal,
    read_based,
    read_number,
    same_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"),
        ("+042", "42"),
        ("-.5", "-1/2"),
        ("--3", "3"),
        ("(-3)", "-3"),
        ("1,234,567.5", "1234567.5"),
        ("1 234 567", "1234567"),
        (r"\frac{-1}{3}", "-1/3"),
        (r"-\frac{1}{3}", "-1/3"),
        ("7/2", "7/2"),
        (r"1\frac{4}{5}", "9/5"),
        ("1 4/5", "9/5"),
        (r"-1\frac{4}{5}", "-9/5"),
        (r"3\times 10^8", "300000000"),
        (r"1.2\times 10^{-4}", "0.00012"),
        ("1.5E3", "1500"),
        ("10^{-3}", "1/1000"),
        ("2^{10}", "1024"),
        ("seventeen", "17"),
        ("Sixty", "60"),
    ],
)
def test_read_number(text: str, value: str) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1,23",
        "1.2.3",
        "3+4",
        "2x",
        "1e999",
        "10^{10^{10}}",
        "٣",
        "½",
        "9" * (MOST_DIGITS + 1),
        "7^{999}",
        "e",
        "-",
        "()",
    ],
)
def test_no_number(text: str) -> None:
    assert read_number(text) is None


def test_division_by_zero_says_nothing() -> None:
    with pytest.raises(Unreadable, match="division by zero"):
        read_number(r"\frac{18}{0}")


@pytest.mark.parametrize(
    ("text", "based"),
    [
        ("4343_6", ("4343", 6)),
        ("-37_{8}", ("-37", 8)),
        ("0ff_{16}", ("FF", 16)),
        ("19_8", None),
        ("12", None),
        ("1_1", None),
    ],
)
def test_read_based(text: str, based: tuple[str, int] | None) -> None:
    assert read_based(text) == based


def number(text: str) -> Number:
    found = read_number(text.removesuffix("%"))
    assert found is not None
    return Number(found.value, found.decimals, found.digits, text.endswith("%"))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("50%", "1/2", True),
        ("0.5%", "0.5", False),
        ("0.5%", "1/200", True),
        ("33.33%", "1/3", True),
        ("33%", "1/3", False),
        ("1/3", "0.3333", True),
        ("1/3", "0.333", False),
        ("1/3", "0.3334", False),
        ("2/3", "0.6667", True),
        ("1/8", "0.1250", True),
        ("1/8", "0.13", False),
        ("12345/100000", "0.1235", False),
        ("0.33333", "0.33334", False),
        ("1000000/3", "333333", False),
        ("0.0000001", "0.0000002", False),
    ],
)
def test_same_number(one: str, other: str, equal: bool) -> None:
    assert same_number(number(one), number(other)) is equal
    assert same_number(number(other), number(one)) is equal


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_spellings_of_a_fraction(over: int, under: int) -> None:
    value = Fraction(over, under)
    spellings = [f"{over}/{under}", rf"\frac{{{over}}}{{{under}}}", rf"\frac{{{3 * over}}}{{{3 * under}}}"]
    if finite_decimal(value) and under in (1, 2, 4, 5, 8, 10):
        spellings.append(f"{over / under:.6f}")
    for spelling in spellings:
        assert same_number(Number(value), number(spelling))
        assert not same_number(Number(value + Fraction(1, 10**12)), number(spelling))


@given(st.fractions(-1000, 1000), st.integers(1, 8))
def test_a_rounding_is_right_and_its_neighbours_are_not(value: Fraction, places: int) -> None:
    scaled = round(value * 10**places)
    for offset in (-1, 0, 1):
        digits = scaled + offset
        sign = "-" if digits < 0 else ""
        text = f"{sign}{abs(digits) // 10**places}.{abs(digits) % 10**places:0{places}d}"
        near = number(text)
        exact = near.value == value
        allowed = offset == 0 and near.rounded and not finite_decimal(value)
        assert same_number(Number(value), near) is (exact or allowed)
