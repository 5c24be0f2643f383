"""Where in a reply the answer stands: the first rule that finds one decides.

1. the last `\\boxed{…}` with balanced braces; boxes that only commas, "and" or "or" part are one list, so that naming
   several answers is one answer that is a list;
2. what follows the last `####` on its line (GSM8K);
3. what follows the last "answer is" or "answer:" up to the end of its sentence;
4. a last line "A: …";
5. a reply of one line, as a whole;
6. the last number, only where the caller asks for it.
"""

from __future__ import annotations

import re

LONGEST_ANSWER = 1000
"""Characters; a longer answer is not read."""
MOST_BOXES = 64
MOST_BETWEEN = 40
"""Characters between two boxes of one list."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?=\{)|(\d))")
_BETWEEN_BOXES = re.compile(r"[\s,;$]*(?:\b(?:and|or)\b)?[\s,;$]*")
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_ANSWER = re.compile(r"\banswers?\**\s*(?:\bis\b\s*:?|:|=)\**[ \t]*\n?([^\n]*)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|[.!]?\**$|,?\s(?:because|since|which|so|as)\s", re.IGNORECASE)
_LAST_LINE = re.compile(r"A:[ \t]*(.*)")
_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+|/\d+)?(?:\s?\\?%)?")


def final_answer(reply: str, last_number: bool = False) -> str | None:
    """The answer as it was written, stripped; None where there is none or it is longer than LONGEST_ANSWER."""
    answer = _find(reply, last_number)
    answer = None if answer is None else answer.strip().strip("*").strip()
    return answer if answer and len(answer) <= LONGEST_ANSWER else None


def _find(reply: str, last_number: bool) -> str | None:
    if (boxed := _boxed(reply)) is not None:
        return boxed
    if found := list(_HASHES.finditer(reply)):
        return found[-1][1]
    # "the answer is" may stand twice on a line, and the last counts
    starts = [match.start() for match in re.finditer(r"\banswer", reply, re.IGNORECASE)]
    for start in reversed(starts):
        if match := _ANSWER.match(reply, start):
            return _sentence(match[1])
    lines = reply.strip().splitlines() or [""]
    if match := _LAST_LINE.fullmatch(lines[-1].strip()):
        return match[1]
    if len(lines) == 1:
        return lines[0]
    numbers = _NUMBER.findall(reply) if last_number else []
    return numbers[-1] if numbers else None


def _sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence: not the one of 1.5, nor one inside $…$."""
    text = text[: 2 * LONGEST_ANSWER]
    for match in _SENTENCE_END.finditer(text):
        if text[: match.start()].count("$") % 2 == 0 or "$" not in text[match.start() :]:
            return text[: match.start()]
    return text


def _boxed(reply: str) -> str | None:
    """From the right, so that a reply full of boxes costs no more than its last ones."""
    parts: list[str] = []
    start = len(reply)
    for match in reversed(list(_BOX.finditer(reply))[-MOST_BOXES:]):
        if match[1] is not None:
            end, content = match.end(), match[1]
        elif (brace := closing_brace(reply, match.end())) is not None:
            end, content = brace + 1, reply[match.end() + 1 : brace]
        else:
            continue
        if parts and not (0 <= start - end <= MOST_BETWEEN and _BETWEEN_BOXES.fullmatch(reply, end, start)):
            break
        parts.insert(0, content)
        start = match.start()
    return ", ".join(parts) if parts else None


def closing_brace(text: str, opening: int) -> int | None:
    """Position of the brace that closes the one at `opening`; escaped braces do not count. None: it stays open."""
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
