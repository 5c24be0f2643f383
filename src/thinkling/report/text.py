"""Formatting of text and numbers for display: hidden characters are made visible, and long texts are shortened."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

# Control characters except tab and newline; zero-width and bidirectional marks, which can make a line look different
# from its content; surrogates and non-characters, which cannot be stored in a file or are not displayed by browsers.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Replace every hidden character by a visible symbol: ESC by `␛`, U+202E by `⟨U+202E⟩`."""
    return _HIDDEN.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def cut(text: str, limit: int) -> tuple[str, str]:
    """Return the first `limit` characters of a text, and a note if the text is longer (else an empty string)."""
    if len(text) <= limit:
        return text, ""
    return text[:limit], f"cut: {limit:,} of {len(text):,} characters shown"


def clip(text: str, limit: int) -> str:
    """Return the text or, if it is longer than `limit` characters, its start and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ·,") + "…"


def wrap(parts: Sequence[str], width: int) -> list[str]:
    """Join the parts by ` · ` into lines of at most `width` characters. Nothing is omitted: a part longer than a line
    is broken between words, and a word longer than a line is broken inside the word."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False)
    return lines


def short(value: float) -> str:
    """Format a count: exactly below 100,000, and with three significant digits from 100,000 on. Examples: 48,054, 431K,
    3.28M."""
    if abs(value) < 1e5:
        return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else f"{value:,.0f}"
    size, unit = next((s, u) for s, u in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")) if abs(value) >= s * 0.9995)
    return f"{value / size:.3g}{unit}"


def number(value: object) -> str:
    """Format a value of a manifest: integers in full with thousands separators, and other numbers with four significant
    digits or, from 10,000 on, with one decimal."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"


def seconds(value: float) -> str:
    """Format a duration: 7.8 s, 2 min 26 s, 3 h 05 min."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def megabytes(value: float) -> str:
    """Format an amount of memory: 556 MB, 3.1 GB."""
    return f"{value:,.0f} MB" if value < 1000 else f"{value / 1000:.1f} GB"
