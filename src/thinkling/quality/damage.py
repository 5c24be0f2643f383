"""Artificial damage to sound texts: examples with low grades, each with the fraction of the text that was damaged.

The labeller is trained on some kinds and tested on one that it never saw, so that its report shows how well it detects
damage in general. The fraction only affects the *grades* of the examples, never their features.
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
    """Fraction of the text that was changed, inserted, or lost: in (0, 1]."""


def damage(kind: str, text: str, other: str, rng: random.Random, protected: int = 0) -> Damaged:
    """Applies damage of one of `KINDS`; `other` is the text of a different document from which pieces are mixed in.

    `protected`: number of leading characters that damage of kind `symbols` leaves alone.
    """
    fraction = rng.uniform(0.05, 0.6)
    kept = protected if kind == "symbols" else 0
    return Damaged(text[:kept] + _KINDS[kind](text[kept:], other, fraction, rng), kind, fraction)


def _characters(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Typing errors: letters replaced, dropped or doubled, in fraction/2 of the characters."""
    changed = list(text)
    for i in rng.sample(range(len(changed)), int(len(changed) * fraction / 2)):
        if changed[i].isalnum():
            changed[i] = rng.choice(("", changed[i] * 2, rng.choice(_LETTERS), rng.choice(_LETTERS)))
    return "".join(changed)


def _symbols(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Digits, capitals and operators replaced by others of the same class."""
    return replace_symbols(text, rng, fraction, _CLASSES)


def _order(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Words in random order (symbols, if the text has few words)."""
    words = re.findall(r"\s+|\S+", text) if len(text.split()) >= 8 else list(text)
    places = [i for i, word in enumerate(words) if not word.isspace()]
    moved = sorted(rng.sample(places, int(len(places) * fraction)))
    shuffled = rng.sample(moved, len(moved))
    changed = list(words)
    for to, origin in zip(moved, shuffled, strict=True):
        changed[to] = words[origin]
    return "".join(changed)


def _mixture(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Sentences of another document in place of the text's own."""
    own, foreign = _pieces(text), _pieces(other)
    for i in rng.sample(range(len(own)), max(1, int(len(own) * fraction))):
        own[i] = rng.choice(foreign)
    return "".join(own)


def _repetition(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """A few sentences repeated until they make up the fraction."""
    pieces = _pieces(text)
    repeated = rng.sample(pieces, min(len(pieces), 2))
    times = max(1, round(fraction / (1 - fraction) * len(pieces) / len(repeated)))
    at = rng.randrange(len(pieces) + 1)
    return "".join([*pieces[:at], *(repeated * min(times, 200)), *pieces[at:]])


def _cut(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Beginning, end, or both missing."""
    lost = max(1, int(len(text) * fraction))
    before = rng.choice((0, 0, lost // 2, lost))
    return text[before : len(text) - (lost - before)]


def _residue(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """Markup and menus between the words."""
    words = text.split(" ")
    for _ in range(max(1, int(len(words) * fraction / 2))):
        words.insert(rng.randrange(len(words) + 1), rng.choice(_RESIDUE))
    return " ".join(words)


def _case(text: str, other: str, fraction: float, rng: random.Random) -> str:
    """A passage in all capitals, or with none."""
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
    """Sentences and lines, each with its trailing white space."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [piece for piece in pieces if piece] or [text]
