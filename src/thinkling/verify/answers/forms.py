"""The forms of parsed answers: number, quantity, list, set, tuple, interval, letter, words, expression and others."""

from __future__ import annotations

from dataclasses import dataclass

from thinkling.verify.answers.numbers import Number
from thinkling.verify.answers.units import Unit


@dataclass(frozen=True)
class Expression:
    """An expression in the notation of notation.py, which only the pool of math-verify workers can compare."""

    text: str


@dataclass(frozen=True)
class Equation:
    """The text of an equation or inequality between expressions, and the text of its last side."""

    text: str
    last: str


@dataclass(frozen=True)
class Letter:
    letter: str


@dataclass(frozen=True)
class Words:
    """Words in lower case, without articles and punctuation."""

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
    """`name = value`. `text` is the whole equation."""

    name: str
    value: Form
    text: str


@dataclass(frozen=True)
class Mapping:
    """Assignments to different names, in the order in which they are written."""

    names: tuple[str, ...]
    values: tuple[Form, ...]


@dataclass(frozen=True)
class Items:
    """Several values. `kind`: "list" (without brackets), "set" or "tuple"."""

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
    """`exact ≈ about`, which are two forms of the same value."""

    exact: Form
    about: Number


Form = (
    Number | Approximation | Expression | Equation | Letter | Words | Based | Ratio | Infinity | Quantity | Assignment
    | Mapping | Items | Interval | Union | Matrix
)  # fmt: skip
REALS = Interval(Infinity(-1), Infinity(1), True, True)
