"""Units, read and converted exactly."""

from fractions import Fraction

import pytest

from thinkling.verify.answers.units import Unit, multiplier, quotient, read_unit


def unit(text: str) -> Unit:
    found = read_unit(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    ("one", "other", "rate"),
    [
        ("km", "m", "1/1000"),
        ("m", "kilometers", "1000"),
        ("square feet", "ft^2", "1"),
        ("sq. ft", "square inches", "1/144"),
        ("cm^{3}", "mL", "1"),
        ("liter", "cubic centimeters", "1/1000"),
        ("mph", "miles per hour", "1"),
        ("km/h", "m/s", "3.6"),
        ("m/s^2", "m / s^2", "1"),
        ("mile", "feet", "1/5280"),
        ("lb", "ounces", "1/16"),
        ("week", "days", "1/7"),
        ("year", "months", "1/12"),
        ("dollars", "cents", "1/100"),
        ("$", "dollar", "1"),
        ("degrees", "°", "1"),
        ("gallons", "quarts", "1/4"),
        ("apples", "apple", "1"),
        ("apples", "red apples", "1"),
        ("kJ", "N * m", "1/1000"),
    ],
)
def test_quotient(one: str, other: str, rate: str) -> None:
    assert quotient(unit(one), unit(other)) == Fraction(rate)


@pytest.mark.parametrize(
    ("one", "other"),
    [("m", "m^2"), ("m", "s"), ("apples", "oranges"), ("°C", "°F"), ("€", "$"), ("apples", "cm"), ("m/s", "s/m")],
)
def test_other_dimensions(one: str, other: str) -> None:
    assert quotient(unit(one), unit(other)) is None


@pytest.mark.parametrize(
    "text", ["", "x", "or 19", "(maybe)", "not apples", "is wrong", "more than five of all these words", "5"]
)
def test_no_unit(text: str) -> None:
    assert read_unit(text) is None


@pytest.mark.parametrize(
    ("text", "question", "named"),
    [
        ("cm^2", "What is the area, in square centimeters?", True),
        ("cm^2", "What is the area?", False),
        ("m/s", "How many meters per second?", True),
        ("m/s", "How many meters?", False),
        ("feet", "How many ft of rope?", True),
    ],
)
def test_named_in(text: str, question: str, named: bool) -> None:
    assert unit(text).named_in(question) is named


def test_loose() -> None:
    assert all(unit(text).loose for text in ("dollars", "°", "apples", "square units"))
    assert not any(unit(text).loose for text in ("cm", "hours", "$ per hour"))


def test_multiplier() -> None:
    assert multiplier("million dollars") == (10**6, "dollars")
    assert multiplier("thousands") == (1000, "")
    assert multiplier("dollars") == (1, "dollars")
