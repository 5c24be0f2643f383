"""Parser for answers without structure: numbers, quantities, ratios, letters, words and expressions."""

from __future__ import annotations

import re

from thinkling.verify.answers.characters import HAN
from thinkling.verify.answers.forms import Based, Expression, Form, Infinity, Letter, Quantity, Ratio, Words
from thinkling.verify.answers.notation import FUNCTIONS
from thinkling.verify.answers.numbers import Number, Unreadable, read_based, read_number
from thinkling.verify.answers.units import measure, multiplier, read_unit

_GREEK = ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "sigma", "tau", "rho")
_MONEY = re.compile(r'([-+]?)\s*([$€£¥₹₩₽]|"?(?:Rs\.?|USD|EUR|GBP|INR|RMB|CNY)\s*"?(?=\s*\d))\s*(.+)')
_COMMAND_OR_WORD = re.compile(
    r'\\[A-Za-z]+|"|(?<=[\d})!°%] )[A-Za-z](?=[/^\\]|$)|[A-Za-z]{2,}|[°¢€$£¥₹₩₽]|[\u4e00-\u9fff]+'
)
_STOP = frozenset(
    {"not", "or", "and", "is", "no", "nor", "the", "if", "but", "any", "all", "an", "its", "it", "so", "yes"}
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def read_leaf(text: str) -> Form:
    """Parse an answer without structure. Raises Unreadable if the text is neither words nor mathematics."""
    sign = text.lstrip("+- ")
    if sign in ("∞", "(∞)"):
        return Infinity(-1 if text.startswith("-") else 1)
    if (number := read_plain_number(text)) is not None:
        return number
    if (based := read_based(text)) is not None:
        return Based(*based)
    if _is_phrase(text):
        return _words(text)
    if (quantity := _quantity(text)) is not None:
        return quantity
    if re.fullmatch(r"\d{1,2}(?::[0-5]\d){1,2}", text) and ":0" in text:  # a time of day, not a ratio
        return _words(text)
    if ":" in text and all(parts := [read_number(part) for part in text.split(":")]):
        return Ratio(tuple(part for part in parts if part))
    bare = text.replace('"', "").strip()
    if re.fullmatch("[A-Za-z]", bare):
        return Expression(bare) if bare in "ei" else Letter(bare)
    if _is_expression(text):
        return Expression(text)
    if (re.search("[A-Za-z]{2}", bare) or HAN.search(bare)) and "\\" not in bare:
        return _words(bare)
    raise Unreadable("neither words nor mathematics")


def _words(text: str) -> Words:
    words = " ".join(_ARTICLES.sub(" ", re.sub(r"[^\w\s]", " ", text.lower())).split())
    if not words:
        raise Unreadable("neither words nor mathematics")
    return Words(words)


def _is_phrase(text: str) -> bool:
    """Whether the text consists of several words that are not a quantity. True for "red ball", False for "five
    apples"."""
    words = text.replace('"', " ").split()
    if len(words) < 2 or not all(
        re.fullmatch("[A-Za-z][A-Za-z'-]+", word) for word in words[words[0].lower() == "a" :]
    ):
        return False
    first = words[0]
    product = len(first) <= 3 and first.lower() not in ("the", "an", "a") and measure(" ".join(words[1:])) is not None
    return read_number(first) is None and first not in FUNCTIONS and not product


def read_plain_number(text: str) -> Number | None:
    """Parse a literal number, with or without a percent sign; None for other texts."""
    number = read_number(text.removesuffix("%"))
    if number is None or not text.endswith("%"):
        return number
    return Number(number.value, number.decimals, number.digits, percent=True)


def _is_expression(text: str) -> bool:
    """Whether the text is an expression without words. Consecutive letters count as a product if there are at most
    three."""
    if re.search('["$?°%]', text) or re.fullmatch("[A-Z]{2,}", text) or not re.search("[A-Za-z0-9]", text):
        return False
    if re.search(r"[\d)}]\s*_|\.\d*\.|[-+*/^_.]$|(?<![_^\d])\d+ \d", text) or HAN.search(text):
        return False  # a base (which math-verify drops), 1.2.3, a missing operand, or two adjacent numbers
    runs = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", text)
    return all(run in FUNCTIONS or (len(run) <= 3 and run.lower() not in _STOP) for run in runs)


def _quantity(text: str) -> Form | None:
    """Parse a value with a unit or multiplier: "$18", "18 dollars", "5 million", "12\\sqrt{13} feet". Multipliers are
    applied to the value."""
    sign = ""
    if match := _MONEY.fullmatch(text):
        value, rest = _value_and_rest(match[1] + match[3])
        sign = match[2].replace('"', "").strip(" .")
        unit = sign + (" " + rest if rest else "")
    else:
        value, unit = _value_and_rest(text)
        if not unit:
            return None
    if value is None:
        return None
    factor, rest = multiplier(unit.replace(sign, "", 1) if match else unit)
    unit = (sign + " " + rest if match else rest).strip()
    if factor != 1 and not isinstance(value, Number):
        return None
    if isinstance(value, Number):
        value = value.scaled(factor)
    if not unit:
        return value
    if unit.lower() in ("percent", "per cent", "percentage", "pct") and isinstance(value, Number):
        return Number(value.value, value.decimals, value.digits, percent=True)
    known = read_unit(unit)
    return None if known is None else Quantity(value, known)


def _value_and_rest(text: str) -> tuple[Number | Expression | None, str]:
    if (number := read_number(text)) is not None:
        return number, ""
    text = re.sub(r'\\frac\{\s*(?=")([^{}]*)\}\{([^{}]*(?:\{\d\})?)\}', r"\1/\2", text)
    inside = depths(text)
    for match in _COMMAND_OR_WORD.finditer(text):
        word = match[0]
        if word.startswith("\\") or inside[match.start()] or word in FUNCTIONS or match.start() == 0:
            continue
        value, rest = text[: match.start()].strip(' "'), text[match.start() :].replace('"', " ").strip()
        number = read_number(value)
        if number is not None:
            return number, rest
        return (Expression(value), rest) if _is_expression(value) else (None, rest)
    return (Expression(text), "") if _is_expression(text) else (None, "")


def has_variables(text: str) -> bool:
    """Whether an expression contains letters other than constants (e, i) and function names."""
    if any(rf"\{letter}" in text for letter in _GREEK):
        return True
    bare = re.sub(r'\\[A-Za-z]+|"[^"]*"', " ", text)
    return any(word not in FUNCTIONS and word not in ("e", "i") for word in re.findall("[A-Za-z]+", bare))


def depths(text: str) -> list[int]:
    """Return the bracket depth before each character."""
    before, depth = [], 0
    for character in text:
        before.append(depth)
        depth += (character in "([{") - (character in ")]}")
    return before
