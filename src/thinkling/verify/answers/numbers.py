"""Exact parsing of literal numbers: integers, decimals, fractions, mixed numbers, powers of ten, number words and other
bases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MOST_DIGITS = 400
"""Maximum number of decimal digits of a number computed here, including powers. Larger numbers are left to the pool of
math-verify workers."""
FEWEST_ROUNDED = 4
"""Minimum number of significant digits of a decimal that may be a rounded value."""


class Unreadable(ValueError):
    """Raised for an answer or a reference that cannot be compared."""


@dataclass(frozen=True)
class Number:
    """A literal number. `decimals`: number of digits after the point of a decimal, otherwise None; `digits`: number of
    significant digits."""

    value: Fraction
    decimals: int | None = None
    digits: int = 0
    percent: bool = False
    about: bool = False
    """Whether the number was stated as an approximation of a different value, so that a few digits are enough to
    confirm it."""

    def scaled(self, factor: Fraction | int) -> Number:
        return self if factor == 1 else Number(self.value * factor)

    @property
    def rounded(self) -> bool:
        """Whether the number may be the rounded form of a value without a finite decimal form."""
        return self.about or (self.decimals is not None and self.decimals > 0 and self.digits >= FEWEST_ROUNDED)

    @property
    def half_step(self) -> Fraction:
        """Maximum difference from a value that was rounded to this number: half a unit of the last digit, or a whole
        unit for a stated approximation, which may be truncated."""
        return Fraction(1, (1 if self.about else 2) * 10 ** (self.decimals or 0))


_INTEGER = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+|0,\d{{2,}})"
_SIGNED = rf"[-+]? ?{_DECIMAL}"
_EXPONENT = r"\{? ?\(?([-+]? ?\d+)\)? ?\}?"
_LITERAL = re.compile(_DECIMAL)
_SCIENTIFIC = re.compile(rf"(?:({_DECIMAL}) ?\\times )?10 ?\^ ?{_EXPONENT}|({_DECIMAL}) ?[eE]([-+]?\d+)")
_FRACTION = re.compile(
    rf"\\frac\{{ ?({_SIGNED}) ?\}}\{{ ?({_SIGNED}) ?\}}|({_SIGNED}) ?/ ?({_DECIMAL})"
    rf"|\(({_SIGNED})\) ?/ ?\(?({_DECIMAL})\)?"
)
_MIXED = re.compile(rf"({_INTEGER}) ?\\frac\{{ ?(\d+) ?\}}\{{ ?(\d+) ?\}}|(\d+) (\d+) ?/ ?(\d+)")
_POWER = re.compile(r"(\d+) ?\^ ?\{? ?(\d+) ?\}?")
_REPEATING = re.compile(r"(\d+)\.(\d*)\\overline\{(\d+)\}")
_BASED = re.compile(
    r"\(?([0-9A-F]+)\)? ?(?:_ ?[{(]* ?(?:base[ -]?)?(\d+|[a-z]+) ?[)}]*|[(,]? ?(?:in )?base[ -]?(\d+|[a-z]+) ?\)?)",
    re.IGNORECASE,
)
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_BASES = {word: value for value, word in enumerate(_ONES)} | {"binary": 2, "octal": 8, "hexadecimal": 16}
_WORDS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 3)}


def read_number(text: str) -> Number | None:
    """Parse a literal number; None for other texts. Raises Unreadable for a denominator of zero."""
    text = text.strip()
    sign = 1
    while text[:1] in ("-", "+") or (text[:1] in ("(", "{") and _enclosed(text)):
        if text[0] in "({":
            text = text[1:-1].strip()
        else:
            sign, text = (-sign if text[0] == "-" else sign), text[1:].strip()
    if len(text) > MOST_DIGITS or not any(character.isdigit() for character in text) or not text.isascii():
        value = _WORDS.get(text.lower()) if sign == 1 else None
        return None if value is None else Number(Fraction(value))
    number = _unsigned(text)
    return number if number is None or sign == 1 else Number(-number.value, number.decimals, number.digits)


def _enclosed(text: str) -> bool:
    return text[-1:] == {"(": ")", "{": "}"}[text[0]] and not any(bracket in text[1:-1] for bracket in "(){}")


def _unsigned(text: str) -> Number | None:
    if _LITERAL.fullmatch(text):
        return _literal(text)
    if match := _REPEATING.fullmatch(text):
        whole, lead, period = match.groups()
        over = int(whole + lead + period) - int(whole + lead)
        return Number(Fraction(over, (10 ** len(period) - 1) * 10 ** len(lead)))
    if match := _SCIENTIFIC.fullmatch(text):
        mantissa = _literal(match[1] or match[3] or "1")
        exponent = int((match[2] or match[4]).replace(" ", ""))
        if abs(exponent) > MOST_DIGITS:
            return None
        value = mantissa.value * Fraction(10) ** exponent
        return Number(value, max(0, (mantissa.decimals or 0) - exponent), mantissa.digits)
    if match := _FRACTION.fullmatch(text):
        over, under = (_signed(group) for group in match.groups() if group)
        return _quotient(over, under)
    if match := _MIXED.fullmatch(text):
        whole, over, under = (_signed(group) for group in match.groups() if group)
        return Number(whole + _quotient(over, under).value)
    if (match := _POWER.fullmatch(text)) and len(match[2]) <= 3 and len(match[1]) * int(match[2]) <= MOST_DIGITS:
        return Number(Fraction(int(match[1]) ** int(match[2])))
    return None


def _literal(text: str) -> Number:
    text = re.sub(r"^0,", "0.", text).replace(",", "").replace(" ", "")
    whole, _, part = text.partition(".")
    return Number(Fraction(f"{whole or 0}.{part or 0}"), len(part), len((whole + part).lstrip("0")))


def _signed(text: str) -> Fraction:
    text = text.replace(" ", "")
    value = _literal(text.lstrip("+-")).value
    return -value if text.startswith("-") else value


def _quotient(over: Fraction, under: Fraction) -> Number:
    if under == 0:
        raise Unreadable("division by zero")
    return Number(over / under)


def read_based(text: str) -> tuple[str, int] | None:
    """Parse signed digits and a base, as in "4343_{6}", "(4343)_{six}" and "4343 base 6"; None for other texts, or if a
    digit is invalid in the base."""
    text = " ".join(re.sub(r'"|(?<![_{(])\{(?=[0-9A-Fa-f]+\})|(?<=\w)\}(?=\s*_)', " ", text).split())
    match = _BASED.fullmatch(text.removeprefix("-").lstrip())
    if match is None or (len(match[1]) == 1 and match[1].isalpha()):
        return None
    named = (match[2] or match[3]).lower()
    base = int(named[:4]) if named.isdecimal() else _BASES.get(named, 0)
    if not 2 <= base <= 36:
        return None
    digits = match[1].upper().lstrip("0") or "0"
    sign = "-" if text.startswith("-") else ""
    return (sign + digits, base) if all(int(digit, 36) < base for digit in digits) else None


def same_number(reference: Number, answer: Number) -> bool:
    """Whether two numbers are equal as written, as a percentage and a plain number, or as a value and its rounded form.

    50% equals 0.5 and also 50, because a question may ask for percent. A percentage below 1% does not equal the number
    without the percent sign; otherwise, 0.5% would equal 0.5."""
    if reference.percent != answer.percent:
        share, other = (reference, answer) if reference.percent else (answer, reference)
        if abs(share.value) >= 1 and _same(share, other):
            return True
        places = None if share.decimals is None else share.decimals + 2
        return _same(Number(share.value / 100, places, share.digits), other)
    return _same(reference, answer)


def _same(a: Number, b: Number) -> bool:
    if a.value == b.value:
        return True
    for rounded, exact in ((a, b), (b, a)):
        if rounded.about:
            return abs(rounded.value - exact.value) <= rounded.half_step
        if rounded.rounded and exact.decimals is None and not finite_decimal(exact.value):
            return abs(rounded.value - exact.value) <= rounded.half_step
    return False


def finite_decimal(value: Fraction) -> bool:
    """Whether a value has a finite decimal form, so that it need not be rounded."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
