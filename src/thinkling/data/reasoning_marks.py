"""Recognises reasoning marks that a text only mentions, for example in a string, in quotes or in a code block.

A model that writes `text.split("</think>")` generates the same token that ends its reasoning. By contrast, a mark that
opens or closes reasoning is never inside quotes, nor inside a code block that began in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Piece = tuple[bool, str]
"""Whether the piece is a mark, and the text of the piece."""
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_QUOTES = ('"', "`", "'")


def without_spelled(pieces: Sequence[Piece], marks: tuple[str, str], inside: bool = False) -> list[Piece]:
    """Returns the pieces of a reply, in which reasoning marks that are only mentioned are converted to text.

    `marks` are the opening and the closing mark. `inside` specifies whether the reply begins inside reasoning, without
    an opening mark. Adjacent pieces of text are merged.
    """
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
    """Returns the quotation marks of one kind in a line, excluding apostrophes."""
    return re.findall(r"(?<!\w)'|'(?!\w)" if quote == "'" else re.escape(quote), line)


def _in_fence(text: str) -> bool:
    """Returns whether a text ends inside a fenced code block."""
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
