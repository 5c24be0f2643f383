"""Quantities that can be written with a suffix in a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def _tokens(value: Any) -> Any:
    """Convert `12.4T`, `2M`, 450000 or 1e12 to an integer. Any other value is returned unchanged, so that pydantic
    rejects it."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMBT]?)\s*", value)):
        return round(float(match[1]) * _SCALE[match[2]])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Tokens = Annotated[int, BeforeValidator(_tokens), Field(gt=0)]
"""A number of tokens, optionally with a suffix: `12.4T`, `6B`, `2M`, `64K` (powers of 1000)."""
