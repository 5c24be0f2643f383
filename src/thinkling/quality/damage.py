"""Artificial damage to sound (correct) texts, which creates examples with low grades and a known damaged fraction.

The labeller is trained on some kinds of damage and tested on a kind that it has never seen, so that the report shows
how well the labeller detects damage in general. The damaged fraction only affects the *grades* of the examples, never
their features.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from string import ascii_uppercase, digits
from typing import NamedTuple

from thinkling.data.symbols import replace_symbols

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CLASSES = (digits, ascii_uppercase, "+-*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_RESIDUE = (
    '<div class="item">', "</div>", "<br/>", '<a href="#top">', "</span>", "&nbsp;", "&amp;", "\ufffd", "â€™",
    "Home | About | Contact", "» Next", "Share this", "Log in", "[edit]", "Copyright © All rights reserved",
)  # fmt: skip


class Damaged(NamedTuple):
    """A damaged text."""

    text: str
    kind: str
    fraction: float
    """The fraction of the text that was changed, inserted or removed, in (0, 1]."""


def damage(kind: str, text: str, other: str, rng: random.Random, protected: int = 0) -> Damaged:
    """Apply damage of one of `KINDS`. `other` is the text of a different document, used by the kind `mixture`.

    `protected`: number of leading characters that the kind `symbols` leaves unchanged.
    """
    fraction = rng.uniform(0.05, 0.6)
    kept = protected if kind == "symbols" else 0
    return Damaged(text[:kept] + _KINDS[kind](text[kept:], other, fraction, rng), kind, fraction)


def _characters(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Introduce typing errors: replace, drop or double letters and digits at fraction/2 of the positions."""
    changed = list(text)
    for i in rng.sample(range(len(changed)), int(len(changed) * fraction / 2)):
        if changed[i].isalnum():
            changed[i] = rng.choice(("", changed[i] * 2, rng.choice(_LETTERS), rng.choice(_LETTERS)))
    return "".join(changed)


def _symbols(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Replace digits, capitals and operators with other characters of the same class."""
    return replace_symbols(text, rng, fraction, _CLASSES)


def _order(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Shuffle `fraction` of the words, or of the characters if the text has fewer than 8 words."""
    words = re.findall(r"\s+|\S+", text) if len(text.split()) >= 8 else list(text)
    places = [i for i, word in enumerate(words) if not word.isspace()]
    moved = sorted(rng.sample(places, int(len(places) * fraction)))
    shuffled = rng.sample(moved, len(moved))
    changed = list(words)
    for to, origin in zip(moved, shuffled, strict=True):
        changed[to] = words[origin]
    return "".join(changed)


def _mixture(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Replace sentences with sentences of another document."""
    own, foreign = _pieces(text), _pieces(other)
    for i in rng.sample(range(len(own)), max(1, int(len(own) * fraction))):
        own[i] = rng.choice(foreign)
    return "".join(own)


def _repetition(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Insert repetitions of one or two sentences until the repetitions make up `fraction` of the text."""
    pieces = _pieces(text)
    repeated = rng.sample(pieces, min(len(pieces), 2))
    times = max(1, round(fraction / (1 - fraction) * len(pieces) / len(repeated)))
    at = rng.randrange(len(pieces) + 1)
    return "".join([*pieces[:at], *(repeated * min(times, 200)), *pieces[at:]])


def _cut(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Remove the beginning, the end, or both."""
    lost = max(1, int(len(text) * fraction))
    before = rng.choice((0, 0, lost // 2, lost))
    return text[before : len(text) - (lost - before)]


def _residue(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Insert markup and menu text between the words."""
    words = text.split(" ")
    for _ in range(max(1, int(len(words) * fraction / 2))):
        words.insert(rng.randrange(len(words) + 1), rng.choice(_RESIDUE))
    return " ".join(words)


def _case(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Convert a passage to upper case, lower case or swapped case."""
    length = int(len(text) * fraction)
    at = rng.randrange(len(text) - length + 1)
    change = rng.choice((str.upper, str.lower, str.swapcase))
    return text[:at] + change(text[at : at + length]) + text[at + length :]


_KINDS: dict[str, Callable[[str, str, float, random.Random], str]] = {
    "characters": _characters,
    "symbols": _symbols,
    "order": _order,
    "mixture": _mixture,
    "repetition": _repetition,
    "cut": _cut,
    "residue": _residue,
    "case": _case,
}
KINDS: tuple[str, ...] = tuple(_KINDS)


def _pieces(text: str) -> list[str]:
    """Split a text into sentences and lines, each with its trailing whitespace."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [piece for piece in pieces if piece] or [text]
