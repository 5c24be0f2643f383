"""Replaces symbols of a text at random by others of their own class: structure is kept, content is lost."""

from __future__ import annotations

import random
from collections.abc import Sequence


def replace_symbols(text: str, rng: random.Random, fraction: float, classes: Sequence[str]) -> str:
    """The text with a `fraction` of its symbols each replaced by a different one of the same class.

    `classes`: disjoint strings of characters; other characters are kept. Of n symbols exactly fraction·n change if that
    is a whole number; otherwise it is rounded up or down at random, correct on average.
    """
    places = [i for i, character in enumerate(text) if any(character in one for one in classes)]
    changed = list(text)
    for i in rng.sample(places, int(fraction * len(places) + rng.random())):
        own = next(one for one in classes if text[i] in one)
        changed[i] = rng.choice([symbol for symbol in own if symbol != text[i]])
    return "".join(changed)
