"""The calculator tool: a parser and evaluator for exact arithmetic. It never calls eval, and supports no names or
exponents.

sum     := product (("+" | "-") product)*
product := unary (("*" | "/") unary)*
unary   := ("-" | "+")* atom
atom    := number | "(" sum ")"
number  := digits ["." digits] | "." digits
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_LENGTH = 200
"""Maximum length of an expression in characters."""
MAX_NESTING = 50
"""Maximum nesting depth of an expression. Each open bracket and each sign before an operand counts as one level."""
MAX_MAGNITUDE = 10**30
"""Maximum absolute value of the numerator and of the denominator of any number or intermediate value."""

_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[-+*/()]")
_SPACE = re.compile(r"[ \t]*")


class CalculatorError(ValueError):
    """The expression cannot be parsed, exceeds a limit, or divides by zero."""


def evaluate(expression: str) -> int | Fraction:
    """Returns the exact value of an arithmetic expression: an int if the value is whole, otherwise a Fraction.

    Raises CalculatorError if the expression is malformed, is longer than MAX_LENGTH, is nested deeper than MAX_NESTING,
    exceeds MAX_MAGNITUDE or divides by zero.
    """
    if len(expression) > MAX_LENGTH:
        raise CalculatorError(f"expression longer than {MAX_LENGTH} characters")
    parser = _Parser(_tokens(expression))
    value = parser.sum(0)
    if parser.next:
        raise CalculatorError(f"unexpected {parser.next!r}")
    return value.numerator if value.denominator == 1 else value


def write_number(value: int | Fraction) -> str:
    """Formats a number exactly: an integer as `7`, a number with at most 12 decimals as `-3.5`, and any other number as
    `1/3`."""
    value = Fraction(value)
    twos_fives = value.denominator
    places = 0
    while twos_fives % 10 == 0 or twos_fives % 2 == 0 or twos_fives % 5 == 0:
        twos_fives //= 10 if twos_fives % 10 == 0 else 2 if twos_fives % 2 == 0 else 5
        places += 1
    if twos_fives != 1 or places > 12:
        return f"{value.numerator}/{value.denominator}"
    if places == 0:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _tokens(expression: str) -> list[str]:
    tokens = []
    at = _skip_space(expression, 0)
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if not match:
            raise CalculatorError(f"cannot read {expression[at]!r}")
        tokens.append(match.group())
        at = _skip_space(expression, match.end())
    return tokens


def _skip_space(expression: str, at: int) -> int:
    match = _SPACE.match(expression, at)
    return match.end() if match else at


def _limited(value: Fraction) -> Fraction:
    if abs(value.numerator) > MAX_MAGNITUDE or value.denominator > MAX_MAGNITUDE:
        raise CalculatorError("number too large")
    return value


class _Parser:
    """Recursive descent over the tokens; `depth` counts open brackets and signs."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.at += 1
        return token

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.next in ("+", "-"):
            value = _limited(value + self.product(depth) if self.take() == "+" else value - self.product(depth))
        return value

    def product(self, depth: int) -> Fraction:
        value = self.unary(depth)
        while self.next in ("*", "/"):
            operator, right = self.take(), self.unary(depth)
            if operator == "/" and right == 0:
                raise CalculatorError("division by zero")
            value = _limited(value * right if operator == "*" else value / right)
        return value

    def unary(self, depth: int) -> Fraction:
        if depth > MAX_NESTING:
            raise CalculatorError(f"nested deeper than {MAX_NESTING}")
        if self.next in ("-", "+"):
            return -self.unary(depth + 1) if self.take() == "-" else self.unary(depth + 1)
        return self.atom(depth)

    def atom(self, depth: int) -> Fraction:
        token = self.take()
        if token == "(":
            value = self.sum(depth + 1)
            if self.take() != ")":
                raise CalculatorError("a bracket is not closed")
            return value
        if token[:1].isdigit() or token[:1] == ".":
            return _limited(Fraction(token))
        raise CalculatorError(f"expected a number, found {token!r}" if token else "the expression ends too early")
