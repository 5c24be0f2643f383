"""Possible forms of an answer: number, quantity, list, set, tuple, interval, letter, words, expression …"""

from __future__ import annotations

from dataclasses import dataclass

from thinkling.verify.answers.numbers import Number
from thinkling.verify.answers.units import Unit


@dataclass(frozen=True)
class Expression:
    """An expression that only the pool can compare, in the notation of notation.py."""

    text: str


@dataclass(frozen=True)
class Equation:
    """Text of an equation or inequality between expressions, and its last side."""

    text: str
    last: str


@dataclass(frozen=True)
class Letter:
    letter: str


@dataclass(frozen=True)
class Words:
    """Lowercase words without articles and punctuation."""

    text: str


@dataclass(frozen=True)
class Based:
    digits: str
    base: int


@dataclass(frozen=True)
class Ratio:
    parts: tuple[Number, ...]


@dataclass(frozen=True)
class Infinity:
    sign: int


@dataclass(frozen=True)
class Quantity:
    value: Number | Expression
    unit: Unit


@dataclass(frozen=True)
class Assignment:
    """`name = value`; `text` is the whole."""

    name: str
    value: Form
    text: str


@dataclass(frozen=True)
class Mapping:
    """Assignments to different names, in the order written."""

    names: tuple[str, ...]
    values: tuple[Form, ...]


@dataclass(frozen=True)
class Items:
    """`kind`: "list" for a bare list, "set", or "tuple"."""

    kind: str
    items: tuple[Form, ...]


@dataclass(frozen=True)
class Interval:
    low: Form
    high: Form
    low_open: bool
    high_open: bool
    name: str = ""


@dataclass(frozen=True)
class Union:
    parts: tuple[Form, ...]


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Form, ...], ...]


@dataclass(frozen=True)
class Approximation:
    """`exact ≈ about`: both are the same value."""

    exact: Form
    about: Number


Form = (
    Number | Approximation | Expression | Equation | Letter | Words | Based | Ratio | Infinity | Quantity | Assignment
    | Mapping | Items | Interval | Union | Matrix
)  # fmt: skip
REALS = Interval(Infinity(-1), Infinity(1), True, True)
