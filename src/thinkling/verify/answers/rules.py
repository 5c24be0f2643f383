"""Exact rules that compare the forms of an answer and a reference. Comparisons that need algebra are delegated to
`same`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

from thinkling.verify.answers.forms import (
    Approximation,
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
from thinkling.verify.answers.leaves import has_variables
from thinkling.verify.answers.names import names_a_quantity
from thinkling.verify.answers.notation import condensed
from thinkling.verify.answers.numbers import Number, Unreadable, same_number
from thinkling.verify.answers.reading import read
from thinkling.verify.answers.units import quotient

Same = Callable[[Form, Form], bool]
"""A function `same(reference, answer)` that returns whether two leaves (numbers, letters, expressions) or two equations
are equal."""
_OPERATOR = re.compile(r"(?<=[\w})!])\s*(?:[-+/*]|\\times)|\)\s*[(\[]|\d\s*[(\[]|\}\s*\{(?!\d+\})")


_WORK = re.compile(r"\\(?:int|iint|sum|prod|lim|det|gcd|lcm|max|min|ldots|cdots|dots)(?![A-Za-z])")


class AnswerComparison:
    """Compares forms. If `question` determines a unit or a base, an answer may omit the unit or base.

    The comparison is monotone: if two forms are unequal with a `same` that always returns True, they are unequal with
    every other `same`."""

    def __init__(self, question: str, same: Same) -> None:
        self.question = question
        self.same = same

    def __call__(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Assignment) or isinstance(answer, Assignment):
            return self._assignments(reference, answer)
        if isinstance(reference, Equation) or isinstance(answer, Equation):
            return self._equations(reference, answer)
        if isinstance(reference, Approximation) or isinstance(answer, Approximation):
            return self._approximations(reference, answer)
        if isinstance(reference, Quantity) or isinstance(answer, Quantity):
            return self._quantities(reference, answer)
        if isinstance(reference, Mapping) or isinstance(answer, Mapping):
            return self._mappings(reference, answer)
        if isinstance(reference, Interval | Union) or isinstance(answer, Interval | Union):
            return self._intervals(reference, answer)
        if isinstance(reference, Matrix) or isinstance(answer, Matrix):
            return self._matrices(reference, answer)
        if isinstance(reference, Items) or isinstance(answer, Items):
            return self._items(reference, answer)
        return self._leaves(reference, answer)

    def texts(self, reference: Form, answer: str) -> bool:
        """Parse an answer according to the reference and compare the two: "81,256" is two numbers if the reference is a
        list.

        Raises Unreadable if the answer cannot be compared."""
        return self(reference, read(answer, thousands=not isinstance(reference, Items)))

    def _ordered(self, reference: Sequence[Form], answer: Sequence[Form]) -> bool:
        return len(reference) == len(answer) and all(map(self, reference, answer))

    def _unordered(self, reference: Sequence[Form], answer: Sequence[Form]) -> bool:
        """Whether the items of the reference and of the answer match one to one in some order. The match is found by
        augmenting paths, because a greedy search could miss a match if `same` always returns True."""
        if len(reference) != len(answer):
            return False
        edges = [[at for at, other in enumerate(answer) if self(one, other)] for one in reference]
        matched: dict[int, int] = {}

        def place(row: int, seen: set[int]) -> bool:
            for column in edges[row]:
                if column not in seen:
                    seen.add(column)
                    if column not in matched or place(matched[column], seen):
                        matched[column] = row
                        return True
            return False

        return all(place(row, set()) for row in range(len(reference)))

    def _assignments(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Assignment) and isinstance(answer, Assignment):
            if reference.name == answer.name:
                return self(reference.value, answer.value)
            return any(has_variables(side.text.partition("=")[2]) for side in (reference, answer)) and self.same(
                Equation(reference.text, ""), Equation(answer.text, "")
            )
        if isinstance(reference, Assignment):
            if isinstance(answer, Equation):
                return "=" in answer.text and self.same(Equation(reference.text, ""), answer)
            return self(reference.value, answer)
        assert isinstance(answer, Assignment)
        if isinstance(reference, Equation):
            return "=" in reference.text and self.same(reference, Equation(answer.text, ""))
        return self(reference, answer.value)

    def _equations(self, reference: Form, answer: Form) -> bool:
        """Compare equations if the reference is an equation. Otherwise the answer is a chain of equalities, whose last
        side is compared with the reference."""
        if isinstance(reference, Equation):
            return isinstance(answer, Equation) and self.same(reference, answer)
        if not isinstance(answer, Equation) or "=" not in answer.text:
            return False
        try:
            return self(reference, read(answer.last))
        except Unreadable:
            return False

    def _quantities(self, reference: Form, answer: Form) -> bool:
        if not isinstance(reference, Quantity):
            assert isinstance(answer, Quantity)
            if isinstance(reference, Number) and reference.percent:
                return False  # 28 apples is not 28%
            return isinstance(reference, Number | Expression) and self(reference, answer.value)
        if isinstance(answer, Quantity):
            rate = quotient(reference.unit, answer.unit)
            return rate is not None and self(reference.value, _scaled(answer.value, rate))
        if not isinstance(answer, Number | Expression) or (isinstance(answer, Number) and answer.percent):
            return False
        free = reference.unit.loose or reference.unit.named_in(self.question)
        return free and self(reference.value, answer)

    def _approximations(self, reference: Form, answer: Form) -> bool:
        """Compare forms of which at least one is an approximation. The exact side is compared with the other form, and
        an approximation must be consistent: "4 ≈ 9" never matches."""
        if not isinstance(reference, Approximation):
            assert isinstance(answer, Approximation)
            return self._names(answer, reference, lambda exact, other: self(other, exact))
        if isinstance(answer, Approximation):
            fits = self._is_about(answer.exact, lambda exact: self.same(answer.about, exact), answer.about)
            return fits and self._names(reference, answer.exact, self)
        return self._names(reference, answer, self)

    def _names(self, stated: Approximation, other: Form, equal: Callable[[Form, Form], bool]) -> bool:
        if not self._is_about(stated.exact, lambda exact: self.same(stated.about, exact), stated.about):
            return False
        if isinstance(other, Number) and other == Number(
            stated.about.value, stated.about.decimals, stated.about.digits
        ):
            return True
        return equal(stated.exact, other)

    @staticmethod
    def _is_about(exact: Form, same: Callable[[Form], bool], about: Number) -> bool:
        if isinstance(exact, Number):
            return same_number(about, exact)
        return isinstance(exact, Expression) and not has_variables(exact.text) and same(exact)

    def _mappings(self, reference: Form, answer: Form) -> bool:
        """Compare values by name. A mapping such as x = 2, a = 5 also equals a tuple of its values: (5, 2) if the
        question contains (a, x), and otherwise (2, 5), in the order in which the mapping is written."""
        if isinstance(reference, Mapping) and isinstance(answer, Mapping):
            if sorted(reference.names) != sorted(answer.names):
                return False
            found = dict(zip(answer.names, answer.values, strict=True))
            return all(self(value, found[name]) for name, value in zip(reference.names, reference.values, strict=True))
        mapping, other = (reference, answer) if isinstance(reference, Mapping) else (answer, reference)
        if not isinstance(mapping, Mapping) or not isinstance(other, Items) or other.kind == "set":
            return False
        values = _in_order(mapping, self.question)
        if values is None:
            return False
        pair = (values, other.items) if mapping is reference else (other.items, values)
        roots = other.kind == "list" and len({name[0] for name in mapping.names}) == 1 and mapping.names[0][0] in "xztr"
        return (self._unordered if roots else self._ordered)(*pair)

    def _intervals(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Union) and isinstance(answer, Union):
            return self._unordered(reference.parts, answer.parts)
        one, other = _as_interval(reference), _as_interval(answer)
        if one is None or other is None or (one.name and other.name and one.name != other.name):
            return False
        opens = one.low_open == other.low_open and one.high_open == other.high_open
        return opens and self(one.low, other.low) and self(one.high, other.high)

    def _matrices(self, reference: Form, answer: Form) -> bool:
        """Compare matrices. A single row or column also equals a tuple."""
        if isinstance(reference, Matrix) and isinstance(answer, Matrix):
            rows = (reference.rows, answer.rows)
            return len(rows[0]) == len(rows[1]) and all(map(self._ordered, *rows))
        one, other = _line(reference), _line(answer)
        return one is not None and other is not None and self._ordered(one, other)

    def _items(self, reference: Form, answer: Form) -> bool:
        if not isinstance(reference, Items) or not isinstance(answer, Items):
            return _same_choices(reference, answer)
        kinds = {reference.kind, answer.kind}
        if kinds == {"tuple", "set"}:
            return False
        if "set" in kinds:
            return self._cover(reference.items, answer.items)
        return (self._ordered if "tuple" in kinds else self._unordered)(reference.items, answer.items)

    def _cover(self, reference: Sequence[Form], answer: Sequence[Form]) -> bool:
        """Compare sets, ignoring repetitions: {3, 5, 5} equals {3, 5}. Without repetitions, a one-to-one match is
        required."""
        if len(reference) == len(answer):
            return self._unordered(reference, answer) or (
                _repeats(reference) and _repeats(answer) and self._each(reference, answer)
            )
        shorter, longer = sorted((reference, answer), key=len)
        return _repeats(longer) and _different(longer) <= _different(shorter) and self._each(reference, answer)

    def _each(self, reference: Sequence[Form], answer: Sequence[Form]) -> bool:
        return all(any(self(one, other) for other in answer) for one in reference) and all(
            any(self(one, other) for one in reference) for other in answer
        )

    def _leaves(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Number) and isinstance(answer, Number):
            return same_number(reference, answer)
        if isinstance(reference, Based) or isinstance(answer, Based):
            return self._based(reference, answer)
        if isinstance(reference, Ratio) or isinstance(answer, Ratio):
            return _same_ratio(_parts(reference), _parts(answer))
        if isinstance(reference, Letter) and isinstance(answer, Letter):
            return reference.letter.lower() == answer.letter.lower()
        if isinstance(reference, Words) and isinstance(answer, Expression):
            return reference.text == answer.text.lower()
        if isinstance(reference, Expression) and isinstance(answer, Words):
            return reference.text.lower() == answer.text
        if isinstance(reference, Words | Infinity) or isinstance(answer, Words | Infinity):
            return reference == answer
        if isinstance(answer, Expression) and is_unfinished(answer.text, reference):
            return False
        if isinstance(reference, Expression) and isinstance(answer, Expression) and _same_text(reference, answer):
            return True
        percent = [side for side in (reference, answer) if isinstance(side, Number) and side.percent]
        numbers = isinstance(reference, Expression) or isinstance(answer, Expression)
        return numbers and not percent and self.same(reference, answer)

    def _based(self, reference: Form, answer: Form) -> bool:
        if isinstance(reference, Based) and isinstance(answer, Based):
            return reference == answer
        based, other = (reference, answer) if isinstance(reference, Based) else (answer, reference)
        if not isinstance(based, Based) or not isinstance(other, Number) or not based.digits.lstrip("-").isdecimal():
            return False
        named = based.base == 10 or re.search(rf"\bbase\W{{0,4}}{based.base}\b", self.question) is not None
        return named and other.decimals == 0 and not other.percent and other.value == int(based.digits)


def is_value_of_unread_name(reference: Form, answer: str, compare: AnswerComparison) -> bool:
    """Whether the reference is an equation that seems to name a quantity, and the answer equals the last side of the
    equation."""
    if not isinstance(reference, Equation) or "=" not in reference.text or has_variables(reference.last):
        return False
    if not names_a_quantity(reference.text.partition("=")[0]):
        return False
    try:
        return compare.texts(read(reference.last), answer)
    except Unreadable:
        return False


def is_unfinished(answer: str, reference: Form) -> bool:
    """Whether the answer still has to be evaluated. This is the case for an integral, a sum or a similar operator that
    the reference does not contain. If the reference is not an expression, this is also the case for a sum, difference,
    product or quotient of numbers, but not for 2^{10}, 10! and √16."""
    expected = reference.text if isinstance(reference, Expression) else ""
    if _WORK.search(answer) and not _WORK.search(expected):
        return True
    text = answer.removeprefix("-")
    if expected or has_variables(text) or r"\pi" in text or re.search("[ei]", re.sub(r"\\[a-z]+", "", text)):
        return False
    return _OPERATOR.search(re.sub(r"[\^_]\s*\{[^{}]*\}", "^", text)) is not None


def _same_text(one: Expression, other: Expression) -> bool:
    return condensed(one.text) == condensed(other.text)


def _scaled(value: Number | Expression, rate: Fraction) -> Number | Expression:
    if isinstance(value, Number):
        return value.scaled(rate)
    if rate == 1:
        return value
    return Expression(rf"\frac{{{rate.numerator}}}{{{rate.denominator}}}({value.text})")


def _in_order(mapping: Mapping, question: str) -> tuple[Form, ...] | None:
    """Return the values of a mapping in the order of the question, or else in the order in which the mapping is
    written; None if the order is ambiguous, as in y = 1, x = 2."""
    found = dict(zip(mapping.names, mapping.values, strict=True))
    for match in re.finditer(r"\(([^()]{3,60})\)", question):
        names = [name.strip().replace("{", "").replace("}", "") for name in match[1].split(",")]
        if len(names) == len(found) and set(names) == set(found):
            return tuple(found[name] for name in names)
    letters = [ord(name) for name in mapping.names if len(name) == 1]
    turned = [one - other for one, other in pairwise(letters)]
    return None if len(letters) == len(found) and turned and all(step == 1 for step in turned) else mapping.values


def _repeats(items: Sequence[Form]) -> bool:
    return _different(items) < len(items)


def _different(items: Sequence[Form]) -> int:
    return len({(item.value, item.percent) if isinstance(item, Number) else item for item in items})


def _same_choices(one: Form, other: Form) -> bool:
    """Whether a word such as ABD stands for the same choices as a list, here A, B and D."""
    word, items = (one, other) if isinstance(one, Words) else (other, one)
    if not isinstance(word, Words) or not isinstance(items, Items) or items.kind == "tuple":
        return False
    letters = [item.letter for item in items.items if isinstance(item, Letter) and item.letter.isupper()]
    named = list(word.text.upper())
    return len(letters) == len(items.items) and len(set(named)) == len(named) and sorted(named) == sorted(letters)


def _as_interval(form: Form) -> Interval | None:
    """Convert a form to an interval if possible. (1, 2) may be a pair or an open interval."""
    if isinstance(form, Items) and form.kind == "tuple" and len(form.items) == 2:
        return Interval(form.items[0], form.items[1], True, True)
    return form if isinstance(form, Interval) else None


def _line(form: Form) -> tuple[Form, ...] | None:
    if isinstance(form, Items) and form.kind == "tuple":
        return form.items
    if isinstance(form, Matrix) and 1 in (len(form.rows), len(form.rows[0])):
        return tuple(cell for row in form.rows for cell in row)
    return None


def _parts(form: Form) -> list[Fraction]:
    if isinstance(form, Ratio):
        return [part.value for part in form.parts]
    return [form.value, Fraction(1)] if isinstance(form, Number) and not form.percent else []


def _same_ratio(one: list[Fraction], other: list[Fraction]) -> bool:
    if len(one) != len(other) or not one or not one[-1] or not other[-1]:
        return False
    return all(a * other[-1] == b * one[-1] for a, b in zip(one, other, strict=True))
