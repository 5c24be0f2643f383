"""Normalises mathematical text, so that different ways of typing the same text result in the same tokens.

Differences between LaTeX and plain text, and in spacing and case, are removed. `x^{2}`, `x ^ 2` and `x²` are converted
to the same tokens, as are `\\dfrac12`, `\\frac{1}{2}` and `1/2`, or `\\left( a \\right)` and `(a)`. The result is
only suitable for comparison, because `$`, braces, `^` and sentence punctuation are dropped.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from thinkling.data.scripts import CHARACTER, UNSPACED, is_unspaced

_SPACING = re.compile(r"\\(?:[,;:!>()\[\]\s\\]|q?quad\b|hspace\{[^{}]*\}|(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\.?)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[^{}]*\}(?:\{[lcrLCR|]*\}|\[[a-zA-Z]*\])?")
_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|normal)?|math(?:rm|bf|it|bb|cal|sf|frak)|mbox|operatorname\*?|boldsymbol)\b"
)
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)")
_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_PREFIXED = re.compile(r"\\[dt](?=binom)")
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?")
_SYMBOLS = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥",
    "geqslant": "≥", "ne": "≠", "neq": "≠", "lt": "<", "gt": ">", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|",
    "ldots": " ", "cdots": " ", "dots": " ", "circ": " ", "degree": " ", "displaystyle": " ", "limits": " ",
}  # fmt: skip
_CHARACTERS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "⁄": "/", "−": "-", "–": "-", "—": "-", "‐": "-",
     "≦": "≤", "⩽": "≤", "≧": "≥", "⩾": "≥", "°": " ", "√": " sqrt ", "∞": " infty ", "…": " ", "’": "'"}
)  # fmt: skip
_GREEK = re.compile("[\u0370-\u03ff]")
_FORMAT_CHARACTER = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_TOKEN = re.compile(r"([^\W\d_]+|\d+|[-+*/=<>≤≥≠%()|])(?=(\w?))")
_TOKEN_OR_CHARACTER = re.compile(
    rf"({CHARACTER})()|([^\W\d_{UNSPACED}]+|[^\D{UNSPACED}]+|[-+*/=<>≤≥≠%()|])(?=([^\W{UNSPACED}]?))"
)


class Tokens(NamedTuple):
    """A text as tokens: runs of case-folded letters, runs of digits, operators, and single characters of scripts
    without spaces."""

    tokens: list[str]
    joined: list[bool]
    """For each token, whether a letter, digit or underscore follows directly. A token is never joined to a character of
    a script without spaces, because words in such a script may end anywhere."""


def tokens(text: str) -> Tokens:
    """Returns the tokens of the normalised text."""
    text = one_form(text)
    if is_unspaced(text):
        both = _TOKEN_OR_CHARACTER.findall(text)
        return Tokens([one or other for one, _, other, _ in both], [bool(after) for *_, after in both])
    found = _TOKEN.findall(text)
    return Tokens([token for token, _ in found], [bool(after) for _, after in found])


def one_form(text: str) -> str:
    """Returns the case-folded text in Unicode's compatibility form (NFKC), with LaTeX commands replaced."""
    if not text.isascii():
        text = _FORMAT_CHARACTER.sub("", text).translate(_CHARACTERS)
        text = _GREEK.sub(_greek_name, unicodedata.normalize("NFKC", text)).translate(_CHARACTERS)
    if "\\" in text:
        text = _without_latex(text)
    return text.casefold()


def _without_latex(text: str) -> str:
    text = _ENVIRONMENT.sub(" ", _SPACING.sub(" ", text))
    text = _FONT.sub(" ", _SHORT_FRACTION.sub(r"{\1/\2}", text))
    while True:  # replaces the innermost fractions first
        replaced = _FRACTION.sub(r" \1/\2 ", text)
        if replaced == text:
            break
        text = replaced
    return _COMMAND.sub(_command, _PREFIXED.sub(r"\\", text))


def _command(match: re.Match[str]) -> str:
    return _SYMBOLS.get(match[1], f" {match[1]} ")


def _greek_name(match: re.Match[str]) -> str:
    """Returns the LaTeX name of a Greek letter, because the command `\\pi` is also converted to `pi`."""
    return f" {unicodedata.name(match[0], '').rpartition(' ')[2].lower()} "
