"""Algebraic comparison with math-verify, with additional checks of its positive results. This code runs only in the
pool's workers.

math-verify (https://github.com/huggingface/Math-Verify) treats values as equal if they differ by less than its working
precision (such as 1/2004! and 1/2006!), drops units, words and the base of a number, and rounds decimals to six places.
To avoid these errors, math-verify only receives expressions without words or units, with decimals as fractions. Values
that it considers equal must also agree to `DIGITS` digits, at several points if there are variables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import parse, verify
from math_verify.parser import LatexExtractionConfig
from sympy.core.relational import Relational

from thinkling.verify.answers.forms import Equation, Expression, Form, Letter
from thinkling.verify.answers.notation import latex
from thinkling.verify.answers.numbers import Number, Unreadable, same_number
from thinkling.verify.answers.reading import read
from thinkling.verify.answers.rules import AnswerComparison

DIGITS = 1500
"""Number of digits to which equal values must agree. sympy only computes as many digits as it needs."""
_POINTS = 4
_ROUNDED_DIGITS = 100
MOST_SIGNED = 4
"""Maximum number of letters for which all combinations of signs are tried."""
_FACTORIALS = (sympy.factorial, sympy.factorial2, sympy.binomial, sympy.gamma)
_POSITIVE = (
    r"(?<![A-Za-z\\]){name}(?![A-Za-z])[^.;]{{0,25}}(?:>\s*0|\\gt\s*0|\bpositive\b)"
    r"|\bpositive\b[^.;]{{0,30}}(?<![A-Za-z\\]){name}(?![A-Za-z])"
)
_CONFIG = LatexExtractionConfig(
    normalization_config=NormalizationConfig(basic_latex=True, malformed_operators=True, boxed="none")
)
# math-verify warns if it runs without a timeout; here the pool provides the timeout.
logging.getLogger("math_verify").setLevel(logging.ERROR)


class Undecided(Exception):
    """Raised if the reference cannot be parsed as mathematics, or if the comparison failed."""


def compare(reference: str, answer: str, question: str) -> bool:
    """Compare reference and answer, given in the notation of answers/notation.py. Raises Undecided, or Unreadable if
    the answer is not mathematics."""
    return AnswerComparison(question, partial(same, question=question)).texts(read(reference), answer)


def same(reference: Form, answer: Form, question: str = "") -> bool:
    """Compare two leaves or two equations. `question` may state which letters are positive. Raises as `compare`
    does."""
    try:
        expected = _parsed(reference)
    except Unreadable as error:
        raise Undecided(f"reference: {error}") from None
    found = _parsed(answer)
    if isinstance(expected, Relational) or isinstance(found, Relational):
        return _same_relation(expected, found)
    for number, form, other in ((expected, reference, found), (found, answer, expected)):
        if isinstance(form, Number) and form.rounded and isinstance(number, sympy.Rational):
            return _rounds_to(form, other)
    if _differ(expected, found):
        return False
    if _has_factorials(expected) or _has_factorials(found):  # math-verify would take long to evaluate Γ
        return expected == found or _simplified(sympy.gammasimp(expected), sympy.gammasimp(found))
    return _math_verify(expected, found) or _simplified(expected, found) or _same_roots(expected, found, question)


def _parsed(form: Form) -> Any:
    if isinstance(form, Number):
        return sympy.Rational(form.value.numerator, form.value.denominator)
    if isinstance(form, Letter):
        return _expression(form.letter)
    if isinstance(form, Expression | Equation):
        return _expression(form.text)
    raise Unreadable("no expression")


@lru_cache(maxsize=256)
def _expression(text: str) -> Any:
    found: Any = parse(
        f"${latex(text)}$",
        [_CONFIG],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,  # type: ignore[arg-type]
    )
    if not found or isinstance(found[0], str):
        raise Unreadable("math-verify cannot read it")
    return found[0].subs({symbol: sympy.I for symbol in found[0].free_symbols if symbol.name == "i"})


def _math_verify(expected: Any, found: Any) -> bool:
    """Call math-verify in both orders, because it is not symmetric. Raises Undecided if both calls fail."""
    failures = []
    for pair in ((expected, found), (found, expected)):
        try:
            if verify(*pair, strict=True, timeout_seconds=None, raise_on_error=True):
                return True
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # sympy may raise anything
            failures.append(f"{type(error).__name__}: {error}")
    if len(failures) == 2:
        raise Undecided(f"math-verify: {failures[0]}")
    return False


def _simplified(expected: Any, found: Any) -> bool:
    """Whether the difference simplifies to 0. Needed because math-verify compares a single symbol only by name."""
    if not isinstance(expected, sympy.Expr) or not isinstance(found, sympy.Expr):
        return False
    return sympy.simplify(expected - found) == 0


def _has_factorials(expression: Any) -> bool:
    return isinstance(expression, sympy.Expr) and expression.has(*_FACTORIALS) and bool(expression.free_symbols)


def _same_roots(expected: Any, found: Any, question: str) -> bool:
    """Compare roots and logarithms of letters. The expressions must be equal if all letters are positive, and for all
    other combinations of signs for which both expressions have a real value.

    For example, √(ab) equals √a·√b, but √(x²) equals x only if the question states that x is positive."""
    if not isinstance(expected, sympy.Expr) or not isinstance(found, sympy.Expr):
        return False
    names = sorted({symbol.name for symbol in _letters(expected) | _letters(found)})
    if not names or len(names) > MOST_SIGNED or expected.has(sympy.Abs) is not found.has(sympy.Abs):
        return False
    positive = {name for name in names if re.search(_POSITIVE.format(name=re.escape(name)), question)}
    for signs in product(*((1,) if name in positive else (1, -1) for name in names)):
        at = {
            name: sign * sympy.Rational(3 * place + 5, 2 * place + 3)
            for place, (name, sign) in enumerate(zip(names, signs, strict=True))
        }
        real = _is_real(expected, at) and _is_real(found, at)
        if real and _vanishes(_put(expected, at) - _put(found, at)) is not True:
            return False
    positives = {name: sympy.Symbol(name, positive=True) for name in names}
    one, other = _put(expected, positives), _put(found, positives)
    difference = sympy.expand_log(one - other)
    return difference == 0 or sympy.simplify(difference) == 0


def _letters(expression: Any) -> set[Any]:
    return set(expression.free_symbols)


def _put(expression: Any, values: dict[str, Any]) -> Any:
    """Substitute values for letters, which are matched by name."""
    return expression.subs({symbol: values[symbol.name] for symbol in _letters(expression)}, simultaneous=True)


def _is_real(expression: Any, at: dict[str, Any]) -> bool:
    """Whether no root or logarithm in the expression has a negative argument for the values `at`."""
    for part in expression.atoms(sympy.Pow, sympy.log):
        inner = part.base if isinstance(part, sympy.Pow) else part.args[0]
        if isinstance(part, sympy.log) or not part.exp.is_integer:
            value = _put(inner, at)
            if value.is_negative or not value.is_real:
                return False
    return True


def _at_points(*expressions: Any) -> Iterator[list[Any]]:
    """Yield the expressions themselves or, if there are variables, their values at several fixed points. The points are
    rational, or integers if there are factorials. Variables are matched by name because math-verify adds assumptions to
    them."""
    names = sorted({symbol.name for expression in expressions for symbol in expression.free_symbols})
    whole = any(_has_factorials(expression) for expression in expressions)
    for point in range(_POINTS if names else 1):
        at = {
            name: sympy.Rational(7 * point + 3 * place + 5, 1 if whole else 11 + 2 * place)
            for place, name in enumerate(names)
        }
        yield [
            expression.subs({symbol: at[symbol.name] for symbol in expression.free_symbols}) if names else expression
            for expression in expressions
        ]


def _vanishes(number: Any) -> bool | None:
    """Whether a number is 0 to DIGITS digits; None if it has no value."""
    value = number.evalf(5, maxn=DIGITS)  # sympy raises its precision, up to DIGITS, until five digits are certain
    if not value.is_number or value.is_finite is False:
        return None
    parts = value.as_real_imag()
    if not all(isinstance(part, sympy.Float | sympy.Integer) for part in parts):
        return None
    return all(part == 0 or (isinstance(part, sympy.Float) and part._prec == 1) for part in parts)


def _differ(expected: Any, found: Any) -> bool:
    """Whether the expressions are provably different numbers. False if they agree or cannot be evaluated."""
    try:
        return any(_vanishes(one - other) is False for one, other in _at_points(expected, found))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # a set, or a function that has no value at a point
        return False


def _rounds_to(rounded: Number, exact: Any) -> bool:
    """Whether the exact value equals `rounded`, or has no finite decimal form and equals `rounded` when rounded to its
    last digit."""
    if exact.free_symbols:
        return False
    if exact.is_rational:
        value = exact.doit()
        return isinstance(value, sympy.Rational) and same_number(rounded, Number(Fraction(value.p, value.q)))
    value = exact.evalf(_ROUNDED_DIGITS)
    if not value.is_real or not value.is_finite:
        return False
    numerator, denominator = sympy.Rational(str(value)).as_numer_denom()
    return abs(Fraction(int(numerator), int(denominator)) - rounded.value) <= rounded.half_step


def _same_relation(expected: Any, found: Any) -> bool:
    """Whether two equations or inequalities are of the same kind and equivalent: the differences of their sides must
    agree up to a constant factor, which must be positive for inequalities. math-verify is not used because it solves
    the relations and accepts a subset of the solutions."""
    if not isinstance(expected, Relational) or not isinstance(found, Relational):
        return False
    sides: list[Any] = []
    for relation in (expected, found):
        flip = isinstance(relation, sympy.StrictLessThan | sympy.LessThan)
        left: Any = relation.lhs
        sides.append(relation.rhs - left if flip else left - relation.rhs)
    kinds = [_kind(relation) for relation in (expected, found)]
    if kinds[0] != kinds[1]:
        return False
    if kinds[0] == "=" and not _proportional(sides):
        # compares only numerators, so that y = 6/x equals xy = 6
        return _proportional([sympy.fraction(sympy.together(side))[0] for side in sides])
    return _proportional(sides, same_sign=kinds[0] != "=")


def _proportional(sides: list[Any], same_sign: bool = False) -> bool:
    points = list(_at_points(*sides))
    (first, second), *_ = points
    if _vanishes(first) is not False or _vanishes(second) is not False:
        return False
    if not all(_vanishes(one * second - other * first) for one, other in points):
        return False
    return not same_sign or bool((first / second).evalf() > 0)


def _kind(relation: Any) -> str:
    if isinstance(relation, sympy.Eq):
        return "="
    return "strict" if isinstance(relation, sympy.StrictLessThan | sympy.StrictGreaterThan) else "loose"
