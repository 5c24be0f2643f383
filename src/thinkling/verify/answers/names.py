"""Patterns for left sides of equations that name a quantity: x, a_{10}, f(3), |z|, \\angle B, AB, V_1:V_2."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?'?|\\(?!pi(?![a-z]))[a-z]+|[A-Za-z]\([A-Za-z]\)")
"""A letter, an indexed letter, or a function of a letter. The value of the name may be an expression."""
_POINTS = r"[A-Z]{1,4}(?:_\{?\w+\}?|')?"
_LETTER = r"[A-Za-z](?:_(?:\{[^{}=]*\}|\w))?"
CLOSED_NAME = re.compile(
    "|".join(
        (
            r"(?:m ?)?\\(?:angle|triangle|overline|overrightarrow|vec|widehat|hat|bar|odot)"
            rf" ?\{{? ?(?:{_POINTS}|[a-z]) ?\}}?",
            r"(?:m ?)?\\angle ?\{?\d\}?",
            r"[fghFGHPEDVSTNu](?:_\{?\w+\}?)?'*(?:\^\{-1\})?'*\([^=]+\)",
            rf"\| ?(?:[A-WYZa-wz]|{_POINTS}|z_\{{?\d\}}?(?: ?[-+] ?z_\{{?\d\}}?)*"
            r"|\\(?:vec|overrightarrow) ?\{? ?\w+ ?\}?) ?\|",
            r"[A-Z]{2,4}'?|[A-Z]{2}(?: ?[-+:/] ?[A-Z]{2})+|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}",
            rf"{_LETTER}(?: ?: ?{_LETTER})+",
            r"[A-Za-z]_\{[^{}=]*\}",
            r"\\(?:sin|cos|tan|cot) ?(?:\\angle ?)?\{?(?:[A-Z]{1,3}|\\(?:alpha|beta|theta|gamma))\}?",
            r'"[^"=<>]*[A-Za-z]{2}[^"=<>]*"(?: ?(?:\(? ?[A-Z]+ ?\)?))?|(?:[A-Za-z]{3,} )*[A-Za-z]{3,}',
        )
    )
)
"""The name of a single value, such as f(3). In an equation with such a name on one side, the other side is the
answer."""
_UNREAD = re.compile(
    r'"|[A-Z]{2}|\\(?:angle|triangle|overline|vec|overrightarrow|operatorname|lim|max|min|sup|inf|det|deg|sum|sigma|dim)'
    r"(?![A-Za-z])|[fghP]\s*\(|[A-Za-z]\([^()]*[,∪∩]"
)


def names_a_quantity(side: str) -> bool:
    """Whether the left side seems to name a quantity in a notation that cannot be parsed, such as AB + f(2)."""
    return _UNREAD.search(side) is not None
