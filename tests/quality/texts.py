"""Texts for the tests of grading: written here by rule, so that nothing real is needed."""

from __future__ import annotations

import random

_SUBJECTS = "the parser|a reader|this function|the second argument|an open file|the result|every caller|one thread"
_VERBS = "returns|reads|changes|keeps|explains|compares|needs|writes"
_OBJECTS = "a list of names|the first value|its own copy|an error|two numbers|the whole text|no state|a new line"
_ENDS = "because it is shared|if nothing is left|for example in a loop|when the file is closed|so that it can stop"


def sentence(rng: random.Random) -> str:
    parts = [rng.choice(words.split("|")) for words in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)]
    return f"{parts[0].capitalize()} {parts[1]} {parts[2]} {parts[3]}."


def prose(rng: random.Random, n: int = 8) -> str:
    """n sentences in paragraphs of four."""
    sentences = [sentence(rng) for _ in range(n)]
    return "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, n, 4)) + "\n"


def advertisement(rng: random.Random, n: int = 8) -> str:
    """n lines of a shop."""
    wares = ["shoes", "watches", "phones", "lamps", "tickets", "bags"]
    lines = [f"BUY {rng.choice(wares)} NOW!!! Best price ${rng.randint(5, 99)} | click here" for _ in range(n)]
    return "\n".join(lines) + "\n"
