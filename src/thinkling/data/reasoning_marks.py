"""Reasoning marks that are only spelled as text: in a program's string, in quotes, in a code block of the answer.

A model that writes `text.split("</think>")` emits the very token that ends its reasoning. A mark written by a template
is never inside quotes, and never inside a code block that began in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Piece = tuple[bool, str]
"""Whether it is a mark, and its text."""
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_QUOTES = ('"', "`", "'")


def without_spelled(pieces: Sequence[Piece], marks: tuple[str, str], inside: bool = False) -> list[Piece]:
    """The pieces of a reply, with those of its two reasoning marks that are only spelled turned into text; adjacent
    text is merged. `inside`: whether the reply begins inside reasoning, without a mark."""
    found: list[Piece] = []
    texts = [text for _, text in pieces]
    answer_from = None if inside else 0
    for at, (is_mark, text) in enumerate(pieces):
        if is_mark and text in marks:
            before, after = "".join(texts[:at]), "".join(texts[at + 1 :])
            if _spelled(before, after, answer_from):
                is_mark = False
            elif text == marks[1]:
                answer_from = len(before) + len(text)
            elif not before.strip():
                answer_from = None
        if not is_mark and found and not found[-1][0]:
            found[-1] = (False, found[-1][1] + text)
        else:
            found.append((is_mark, text))
    return found


def _spelled(before: str, after: str, answer_from: int | None) -> bool:
    if answer_from is not None and _in_fence(before[answer_from:]):
        return True
    start, end = before.rpartition("\n")[2], after.partition("\n")[0]
    return any(len(_marks_of(quote, start)) % 2 and _marks_of(quote, end) for quote in _QUOTES)


def _marks_of(quote: str, line: str) -> list[str]:
    """The quotation marks of one kind in a line, without apostrophes."""
    return re.findall(r"(?<!\w)'|'(?!\w)" if quote == "'" else re.escape(quote), line)


def _in_fence(text: str) -> bool:
    """Whether a text ends inside a fenced code block."""
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            continue
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return bool(fence)
