"""Boxed answers: what is in the box, what directly surrounds it, and which boxes are named together.

A sign, a percent sign or a unit beside a box belongs to its answer. Boxes with a connective, a label or a few words
between them are one answer that names several; after a correction or a conclusion the later box replaces the earlier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinkling.verify.answers.units import leading_unit, read_unit

MOST_BOXES = 64
MOST_BETWEEN = 400
"""Characters between two boxes that are named together."""
FEW_WORDS = 12
"""Up to so many words between two boxes are no working: the boxes are named together."""
MOST_BESIDE = 60
"""Characters beside a box that are looked at."""

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
_VALUE = r"\\?\$?[-\u2212]?(?:\d[\d.,/]*(?<![.,/])(?:\\?%)?|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}|\d*\\sqrt\{[^{}]*\}|[A-Z](?![A-Za-z]))"
_OR = r"(?:\bor\b|或者?|\\text\{\s*or\s*\}|\\lor|\\vee)"
_OR_AFTER = re.compile(
    rf"[\s$*,(]*(?:\\[)\]])?[\s*,(]*{_OR}[\s$*]*(?:\\[(\[])?\s*(?:(?:maybe|possibly|perhaps|even|also|else)\s+)?[\s$]*({_VALUE})"
    r"(?=[\s$*)。]*(?:$|\n|\\[)\]]|[.!](?:\s|$)))"
)
_OR_BEFORE = re.compile(rf"(?<![\w\\.,^_{{])({_VALUE})[\s$*]*(?:\\[)\]])?\s*,?\s*{_OR}\s*[$\s*]*(?:\\[(\[])?\s*\Z")
_PART_OF_MORE = re.compile(r"(?:\\(?:sqrt|[dt]?frac)(?:\[[^\]]*\])?|\}|\^|_)\{\s*\Z|\d\Z")
_SIGN = re.compile(r"([-\u2212+]|\\pm|\\mp|±)(\s*)(?:\\[,;! ]\s*)?\{?\s*\Z")
_OPERAND = re.compile(r"(?:[\d)\]!%}]|(?<![A-Za-z])[A-Za-z])[ \t]*\Z")
_TEXT_BEFORE = re.compile(r"\\(?:text|mathrm|textbf)\{[^{}]*\}\s*\Z")
_MONEY_BEFORE = re.compile(r"(\\\$|[€£¥₹])\s*(?:\\[,;! ])?\Z")
_FACTOR = re.compile(
    r"\s*(?:\\[,;! ]\s*)?(\\?%|°|％|\^\s*\{?\s*\\circ\s*\}?|\^\{[^{}]*\}|\^\w|\\pi(?![A-Za-z])|\\sqrt(?:\[\d+\])?\{[^{}]*\}"
    r"|(?:\\times|\\cdot)\s*10\s*\^\s*\{?-?\d+\}?)"
)
_VARIABLE = re.compile(r"[a-z](?![A-Za-z({])")
_TEXT_AFTER = re.compile(r"\s*(?:\\[,;! ]|~)?\s*\\(?:text|mathrm|textrm|mbox|rm)\s*\{([^{}]*)\}(?:\s*\^\s*\{?(\d)\}?)?")
_CLOSING = re.compile(r"\}?\s*(?:\$+|\\[)\]])?[ \t]*")
_PERCENT_WORD = re.compile(r"(?:percent|per cent)\b|[%％]")
_CHINESE_UNIT = re.compile(r"[\u4e00-\u9fff]{1,5}")


@dataclass(frozen=True)
class Found:
    """Where an answer was found, and the answers that are named there."""

    start: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str


def boxed(reply: str) -> Found | None:
    """The last box, with those that are named together with it. An empty answer: the box is a part of something."""
    boxes = _boxes(reply)
    if not boxes:
        return None
    named = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _together(reply[box.end : named[0].start]):
            break
        named.insert(0, box)
    answers = [_with_surroundings(reply, box) for box in named]
    if match := _OR_AFTER.match(reply, named[-1].end):
        answers.append(match[1])
    before = reply[max(0, named[0].start - MOST_BESIDE) : named[0].start]
    if match := _OR_BEFORE.search(before):
        answers.insert(0, match[1])
    return Found(named[-1].start, tuple(answers))


def _boxes(reply: str) -> list[_Box]:
    """Outermost boxes, the last MOST_BOXES of the reply."""
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


def _with_surroundings(reply: str, box: _Box) -> str:
    content = box.content
    before = reply[max(0, box.start - MOST_BESIDE) : box.start]
    after = reply[box.end : box.end + MOST_BESIDE]
    if _PART_OF_MORE.search(before):
        return ""
    if match := _FACTOR.match(after):
        content = (f"({content})" if match[1][0] == "^" and "circ" not in match[1] else content) + match[1]
        after = after[match.end() :]
    elif match := _VARIABLE.match(after):
        content += match[0]
    content += _unit_after(after)
    if match := _MONEY_BEFORE.search(before):
        content = match[1] + content
        before = before[: match.start()]
    sign = _sign(before)
    simple = re.fullmatch(r"[^-+=,]*", content) is not None
    return content if not sign else sign + (content if simple else f"({content})")


def _sign(before: str) -> str:
    """A sign of the box's own: not the operator after an operand, a bullet, or a dash after a word."""
    match = _SIGN.search(before)
    if match is None:
        return ""
    left = before[: match.start()]
    bullet = bool(match[2]) and (not left or left.endswith("\n"))
    dash = bool(match[2]) and re.search(r"[A-Za-z*]{2}[ \t]*\Z", left) is not None
    if bullet or dash or (_OPERAND.search(left) and not _TEXT_BEFORE.search(left)):
        return ""
    return "" if match[1] == "+" else match[1]


def _unit_after(after: str) -> str:
    """A unit, percent or multiplier that follows the box, inside its mathematics or right behind."""
    if match := _TEXT_AFTER.match(after):
        power = f"^{match[2]}" if match[2] else ""
        return rf"\text{{{match[1]}}}{power}" if read_unit(match[1].strip()) or leading_unit(match[1]) else ""
    closing = _CLOSING.match(after)
    rest = after[closing.end() :] if closing else after
    if match := _PERCENT_WORD.match(rest):
        return r"\%"
    if match := _CHINESE_UNIT.match(rest):
        return match[0] if read_unit(match[0]) else ""
    unit = leading_unit(rest)
    return rf"\text{{ {unit}}}" if unit else ""


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
