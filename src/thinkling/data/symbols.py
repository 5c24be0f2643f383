"""Randomly replaces symbols of a text with symbols of the same class, which preserves the text's structure."""

from __future__ import annotations

import random
from collections.abc import Sequence


def replace_symbols(text: str, rng: random.Random, fraction: float, classes: Sequence[str]) -> str:
    """Returns the text with a `fraction` of its symbols replaced by different symbols of the same class.

    `classes` are disjoint strings of characters. All other characters are kept. Of n symbols, fraction·n are replaced.
    If fraction·n is not a whole number, it is randomly rounded up or down, so that the number of replaced symbols is
    correct on average.
    """
    places = [i for i, character in enumerate(text) if any(character in one for one in classes)]
    changed = list(text)
    for i in rng.sample(places, int(fraction * len(places) + rng.random())):
        own = next(one for one in classes if text[i] in one)
        changed[i] = rng.choice([symbol for symbol in own if symbol != text[i]])
    return "".join(changed)
