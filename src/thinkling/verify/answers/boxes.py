"""Boxed answers, and the grouping of boxes into one answer.

Boxes that are separated only by a connective, a label or a few words form one answer with several values. If there is a
correction or a conclusion between two boxes, the later box replaces the earlier box.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinkling.verify.answers.beside import MOST_BESIDE, with_surroundings

MOST_BOXES = 64
MOST_BETWEEN = 400
"""Maximum number of characters between two boxes of the same answer."""
FEW_WORDS = 12
"""Maximum number of words between two boxes of the same answer. Longer text counts as intermediate working, unless it
contains a word such as "or"."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?=\{)|(\d))")
_REVISION = re.compile(
    r"\b(?:no|wait|actually|correction|corrected|instead|mistaken?|wrong|sorry|oops)\b|不对|更正|错", re.IGNORECASE
)
_HEDGE = re.compile(
    r"\b(?:or|also|alternatively|either|maybe|perhaps|possibly|another|other|both|well|else)\b|或|另", re.IGNORECASE
)
_CONCLUSION = re.compile(
    r"\b(?:therefore|thus|hence|so|then|final|finally|results?|total|conclusion|overall|gives?|yields?|means|because|"
    r"since|get|find|now|next|together|makes?)\b|\\Rightarrow|\\implies|\\therefore|[⇒→∴]|因此|所以|最终|从而|则",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{2,}|[\u4e00-\u9fff]+")
_VALUE = (
    r"\\?\$?[-\u2212]?(?:\d[\d.,/]*(?<![.,/])(?:\\?%)?|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}|\d*\\sqrt\{[^{}]*\}"
    r"|[A-Z](?![A-Za-z]))"
)
_OR = r"(?:\bor\b|或者?|\\text\{\s*or\s*\}|\\lor|\\vee)"
_LABEL = r"(?:[A-Za-z](?:_\{?\d\}?)?\s*=\s*)?"
# Whitespace in these patterns has a maximum length, because adjacent unbounded gaps would take quadratic or cubic time.
_OR_AFTER = re.compile(
    rf"[\s$*,(]{{0,20}}(?:\\[)\]])?[\s*,(]{{0,20}}(?:{_OR}|;|,(?!\s?(?:\\!)?\d{{3}}(?!\d)))[\s$*]{{0,20}}"
    rf"(?:\\[(\[])?\s{{0,20}}(?:(?:maybe|possibly|perhaps|even|also|else)\s+)?[\s$]{{0,20}}{_LABEL}({_VALUE})"
    r"(?=[\s$*)。]*(?:$|\n|\\[)\]]|[.!](?:\s|$)))"
)
_OR_BEFORE = re.compile(
    rf"(?<![\w\\.,^_{{])({_VALUE})[\s$*]*(?:\\[)\]])?\s*,?\s*{_OR}\s*[$\s*]*(?:\\[(\[])?\s*{_LABEL}\Z"
)


@dataclass(frozen=True)
class Found:
    """An answer found in a reply: its position and its values."""

    start: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str


def boxed(reply: str) -> Found | None:
    """Return the last box together with the preceding boxes of the same answer, or None."""
    boxes = _boxes(reply)
    if not boxes:
        return None
    named = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _together(reply[box.end : named[0].start]):
            break
        named.insert(0, box)
    ends = [0, *(box.end for box in named)]
    starts = [*(box.start for box in named), len(reply)]
    answers = [
        with_surroundings(reply, box.start, box.end, box.content, (ends[at], starts[at + 1]))
        for at, box in enumerate(named)
    ]
    if match := _OR_AFTER.match(reply, named[-1].end):
        answers.append(match[1])
    before = reply[max(0, named[0].start - MOST_BESIDE) : named[0].start]
    if match := _OR_BEFORE.search(before):
        answers.insert(0, match[1])
    return Found(named[-1].start, tuple(answers))


def _boxes(reply: str) -> list[_Box]:
    """Return the last MOST_BOXES boxes of the reply, without nested boxes."""
    found: list[_Box] = []
    for match in list(_BOX.finditer(reply))[-MOST_BOXES:]:
        if found and match.start() < found[-1].end:
            continue
        if match[1] is not None:
            found.append(_Box(match.start(), match.end(), match[1]))
        elif (brace := closing_brace(reply, match.end())) is not None:
            found.append(_Box(match.start(), brace + 1, reply[match.end() + 1 : brace]))
    return found


def _together(between: str) -> bool:
    if len(between) > MOST_BETWEEN or _REVISION.search(between):
        return False
    words = len(_WORD.findall(between))
    hedge = _HEDGE.search(between) is not None
    if words <= FEW_WORDS and (hedge or not _CONCLUSION.search(between)):
        return True
    return hedge and not _CONCLUSION.search(between)


def closing_brace(text: str, opening: int) -> int | None:
    """Return the position of the brace that closes the brace at `opening`, ignoring escaped braces; None if there is
    none."""
    depth = 0
    at = opening
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    return None
