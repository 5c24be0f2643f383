"""Parts of an answer that are next to its box: a sign, percent, a unit, a factor, or the rest of an expression."""

from __future__ import annotations

import re

from thinkling.verify.answers.units import CHINESE_MULTIPLIER, leading_unit, read_unit

MOST_BESIDE = 80
"""Maximum number of characters examined on each side of a box."""

_RELATION = r"=|<|>|\\(?:le|leq|ge|geq|leqslant|geqslant|lt|gt|approx|simeq|equiv|ne|neq|sim)(?![A-Za-z])|[≤≥≈≠≡]"
_STOP = (
    rf"{_RELATION}|\$|\\[()\[\]]|\\\\|&|,(?!\s?\d{{3}}(?!\d))|[;:。，；：、]|\n|\\q?quad(?![A-Za-z])|\\(?:text|mathrm|textbf|textit|mbox)\{{[^{{}}]*\}}"
    r"|\\(?:Rightarrow|implies|therefore|to|rightarrow|longrightarrow|Longrightarrow|because|lor|vee|land|wedge|iff|cup"
    r"|pmod|bmod|mod|tag|blacksquare|square|checkmark|qed|hfill|displaystyle|begin|end|item|mid|label)(?![A-Za-z])"
    r"|(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z])|[\u4e00-\u9fff→⇒∴∎■□✓✅|#]|\(mod"
)
_STOP_OUTSIDE = rf"{_STOP}|\*"
"""Outside mathematics, an asterisk is a bullet or marks bold type; inside mathematics, it is a product sign."""
_STOP_LEFT = {maths: re.compile(rf".*(?:{stop})", re.DOTALL) for maths, stop in ((True, _STOP), (False, _STOP_OUTSIDE))}
_STOP_RIGHT = {
    maths: re.compile(rf"(?:{stop}|[.!?](?!\d))", re.DOTALL) for maths, stop in ((True, _STOP), (False, _STOP_OUTSIDE))
}
_EQUAL_TO = re.compile(r"(\d[^=<>$]*)(?:=|\\approx|≈)\s*\Z")
_EQUALS = re.compile(r"\s*(?:=|\\approx|≈)[^=<>$]*\d")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox)\{[^{}]*\}")
_SPACES = re.compile(r"\\[,;:! ]|~")
_MATHS = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_BULLET = re.compile(r"(?:^|\n)[ \t]*[-*+][ \t]+\Z")
_DASH = re.compile(r"[A-Za-z*:]{2}[ \t]+[-\u2212][ \t]+\Z")
_SIGN_OUTSIDE = re.compile(
    r"(?:^|[\s=:(])([-\u2212]|\\pm|±)(?:\$+|\\[(\[])\s*\Z|\$\s*([-\u2212]|\\pm|±)\s*\$\s*\$\s*\Z"
)
_MONEY = re.compile(r"(\\\$|[€£¥₹])\s*(?:\\[,;! ])?\Z")
_DEGREE_OR_PERCENT = re.compile(
    r"\s*(?:\\[,;! ]\s*)?(\\?%|°|％|\^\s*\{?\s*(?:\\circ|°)\s*\}?)|\s*(?:\$+|\\[)\]])\s*(\\?%|％|°)"
)
_TEXT_AFTER = re.compile(
    r"\s*(?:\\[,;:! ]|~)?\s*\\(?:text|mathrm|textrm|mbox|rm)\s*\{([^{}]*)\}(?:\s*\^\s*\{?(\d)\}?)?"
)
_CLOSING = re.compile(r"\}?\s*(?:\$+|\\[)\]])?[ \t]*")
_PERCENT_WORD = re.compile(r"(?:percent|per cent)\b")
_CHINESE_UNIT = re.compile(r"[\u4e00-\u9fff]{1,5}")


def with_surroundings(reply: str, start: int, end: int, content: str, around: tuple[int, int]) -> str:
    """Return the content of the box at start:end, together with the text next to the box that belongs to the answer.
    `around`: bounds of the text to examine, which ends at the neighbouring boxes."""
    low, high = max(around[0], start - MOST_BESIDE), min(around[1], end + MOST_BESIDE)
    alone_left, alone_right = around[0] == 0, around[1] >= len(reply)
    before = _SPACES.sub(" ", _TEXT.sub("\n", reply[low:start]))
    after = _SPACES.sub(" ", reply[end:high].replace(r"\!", ""))
    unit = ""
    if match := _DEGREE_OR_PERCENT.match(after):
        unit = match[1] or match[2]
        after = after[match.end() :]
    maths = _in_maths(reply, start)
    left = _left(before, maths) if alone_left or not re.fullmatch(r"\W*", before) else ""
    right = _right(after, maths) if alone_right and not unit else ""
    if not re.search(r"[\w\\^/*+]", right) and _balanced(left):
        right = ""
    if re.search(r"\w", left + right) and _is_blank(before, after):
        left = right = ""
    whole = left + _grouped(content, left, right) + right
    if not _balanced(whole):
        left = right = ""
        whole = content
    if not left and (match := _SIGN_OUTSIDE.search(before)):
        sign = match[1] or match[2]
        whole = sign + _grouped(whole, sign, "")
    return whole + (unit or _unit_after(after[len(right) :] if right and after.startswith(right) else after))


def _left(before: str, maths: bool) -> str:
    """Return the part of the expression before the box. Bullets, and a dash after a word, do not belong to the
    expression."""
    if _BULLET.search(before) or (not maths and _DASH.search(before)):
        return ""
    money = _MONEY.search(before)
    rest = before[: money.start()] if money else before
    match = _STOP_LEFT[maths].match(rest)
    left = rest[match.end() :] if match else rest
    if not maths:
        left = re.split(r"[\s()]", left)[-1] if not re.fullmatch(r"\s*[-\u2212±]\s*", left) else left
    return left.strip().removeprefix("+") + (money[1] if money else "")


def _right(after: str, maths: bool) -> str:
    if not maths:
        after = re.split(r"[\s()!]", after)[0]
    match = _STOP_RIGHT[maths].search(after)
    right = after[: match.start()] if match else after
    return right.rstrip()


def _is_blank(before: str, after: str) -> bool:
    """Whether the box is a filled-in blank, as in 3 + [4] = 7 and 7 = 3 + [4], so that its content alone is the
    answer."""
    return _EQUALS.match(_until_equals(after)) is not None or _EQUAL_TO.search(_since_equals(before)) is not None


def _until_equals(after: str) -> str:
    at = re.search(r"=|\\approx|≈|\$|\n", after)
    return after[at.start() :] if at else ""


def _since_equals(before: str) -> str:
    at = max(before.rfind("="), before.rfind("≈"))
    return re.split(r"\$|\n|\\[(\[]", before[: at + 1])[-1] if at >= 0 else ""


def _grouped(content: str, left: str, right: str) -> str:
    """Add parentheses if the surroundings would otherwise apply to only part of the content."""
    bare = re.fullmatch(r"[\w.,\\{} ]*|\\(?:sqrt|[dt]?frac)\{.*\}", content) is not None
    joins = left.rstrip("$€£¥₹\\ ({") or (right and not right.startswith(("}", ")", r"\%")))
    return content if (bare and not right.startswith("^")) or not joins else f"({content})"


def _balanced(text: str) -> bool:
    return all(text.count(one) == text.count(other) for one, other in ("()", "{}"))


def _in_maths(reply: str, at: int) -> bool:
    """Whether the position is inside $…$, \\(…\\) or \\[…\\]."""
    inside = ""
    for match in _MATHS.finditer(reply, max(0, at - 2000), at):
        sign = match[0]
        closes = sign == inside or sign in (r"\)", r"\]")
        inside = "" if closes else sign
    return bool(inside)


def _unit_after(after: str) -> str:
    """Return the unit, percent sign or multiplier after the box, inside the same formula or directly after it."""
    if match := _TEXT_AFTER.match(after):
        power = f"^{match[2]}" if match[2] else ""
        known = read_unit(match[1].strip()) or leading_unit(match[1].strip())
        return rf"\text{{ {match[1].strip()}}}{power}" if known else ""
    closing = _CLOSING.match(after)
    rest = after[closing.end() :] if closing else after
    if _PERCENT_WORD.match(rest):
        return r"\%"
    if match := CHINESE_MULTIPLIER.match(rest.lstrip()):
        return match[0]
    if match := _CHINESE_UNIT.match(rest):
        return match[0] if read_unit(match[0]) else ""
    unit = leading_unit(rest)
    return rf"\text{{ {unit}}}" if unit else ""
