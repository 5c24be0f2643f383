"""Text and numbers as they are shown: nothing invisible, nothing endless."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

# Controls but tab and newline; zero-width and bidirectional marks, which can make a line read otherwise than it is;
# surrogates and non-characters, which no file can hold or no browser shows.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with every hidden character replaced by a sign for it: ESC by `␛`, U+202E by `⟨U+202E⟩`."""
    return _HIDDEN.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def cut(text: str, limit: int) -> tuple[str, str]:
    """The start of a text, `limit` characters at most, and a note where something was left out."""
    if len(text) <= limit:
        return text, ""
    return text[:limit], f"cut: {limit:,} of {len(text):,} characters shown"


def clip(text: str, limit: int) -> str:
    """The text, or its start and an ellipsis where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ·,") + "…"


def wrap(parts: Sequence[str], width: int) -> list[str]:
    """Parts joined by ` · ` into lines of at most `width` characters. Nothing is left out: a part longer than a line is
    broken between words, or inside a word that is longer than a line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False)
    return lines


def short(value: float) -> str:
    """A count, exact below 100,000, else in three figures: 48,054, 431K, 3.28M."""
    if abs(value) < 1e5:
        return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else f"{value:,.0f}"
    size, unit = next((s, u) for s, u in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")) if abs(value) >= s * 0.9995)
    return f"{value / size:.3g}{unit}"


def number(value: object) -> str:
    """A value of a manifest in full: thousands apart, fractions in four figures."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"


def seconds(value: float) -> str:
    """A span of time: 7.8 s, 2 min 26 s, 3 h 05 min."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def megabytes(value: float) -> str:
    """Memory: 556 MB, 3.1 GB."""
    return f"{value:,.0f} MB" if value < 1000 else f"{value / 1000:.1f} GB"
