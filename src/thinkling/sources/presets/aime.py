"""AIME problems, with the keys `problem`, `answer` (an integer from 0 to 999) and usually `solution`."""

from __future__ import annotations

from dataclasses import replace

from thinkling.sources.presets import math
from thinkling.sources.presets.base import BOXED_ANSWER, BOXED_TEMPLATE, BadRecord, Found, Item, Preset


def read(found: Found, seed: int) -> Item:
    item = math.read(found, seed)
    if not item.answer.isascii() or not item.answer.isdigit() or len(item.answer) > 3:
        raise BadRecord("answer is not an integer from 0 to 999")
    return replace(item, answer=str(int(item.answer)))


AIME = Preset(math.KEYS, read, verifier="maths", template=BOXED_TEMPLATE, answer_template=BOXED_ANSWER)
