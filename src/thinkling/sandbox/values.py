"""A value as text, so that two processes can compare values without sending objects.

Two texts are equal if and only if Python's == holds between the values, for numbers, strings, bytes, None, lists,
tuples, sets and dicts, however nested. Except: NaN equals NaN, and any other object is its type's name and its repr.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

LONGEST = 2048
"""Characters; a longer text is replaced by its SHA-256."""

_SETS = (set, frozenset, type({}.keys()), type({}.items()))


def canonical(value: Any) -> str:
    """The text of a value. RecursionError: nested too deep; anything that a hostile object's repr raises."""
    text = _text(value)
    if len(text) <= LONGEST:
        return text
    import hashlib  # loads OpenSSL, which the fork-server is better without

    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, int | float | complex | Fraction | Decimal):
        return _number(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bytes | bytearray):
        return "b" + value.hex()
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_text, value)) + ")"
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{_text(key)}:{_text(item)}" for key, item in value.items())) + "}"
    if isinstance(value, _SETS):
        return "set{" + ",".join(sorted(map(_text, value))) + "}"
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__} {value!r}>"


def _number(value: int | float | complex | Fraction | Decimal) -> str:
    """Equal numbers of any two types have equal texts: 1, 1.0 and True. Exact, and linear in the number's length."""
    if isinstance(value, complex):
        return _number(value.real) if value.imag == 0 else f"{_number(value.real)}+{_number(value.imag)}j"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Decimal) and not value.is_finite():
        return "nan" if value.is_nan() else "inf" if value > 0 else "-inf"
    above, below = value.as_integer_ratio()
    return f"{above:x}" if below == 1 else f"{above:x}/{below:x}"
