"""Find the answer in a reply. The answer may be marked in one of the following ways; if there are several marks, the
last mark and the marks directly before it count.

- `\\boxed{…}`, with the text directly around it (boxes.py)
- the text after `####` on the same line (GSM8K)
- `<answer>…</answer>`
- the text after "answer is", "answer:" or a heading "Answer", up to the end of the sentence, and Chinese equivalents
- a last line "A: …"

In a reply without marks, a last line in bold type is the answer, or else the whole reply if it has a single line.
Otherwise, the last number is the answer, but only if the caller requests this. If several adjacent marks count, each
contains a separate answer.
"""

from __future__ import annotations

import re

from thinkling.verify.answers.boxes import Found, boxed

LONGEST_ANSWER = 1000
"""Maximum length of an answer in characters. Longer answers are ignored."""
MOST_MARKS = 64
MOST_WORDS_OF_AN_ANSWER = 2
"""Maximum number of words in a one-line reply that counts as a number with a unit rather than a sentence."""

_HASHES = re.compile(r"####[ \t]*:?[ \t]*([^\n]*)")
_TAGS = re.compile(r"<answer>(.{0,2000}?)</answer>", re.DOTALL | re.IGNORECASE)
_VERB = (
    r"(?:(?:is|are|was|(?:should|would|must|will)(?: therefore| then| thus)? be|equals|"
    r"(?:comes|works) out (?:to be|to|as))\b"
    r"(?:\s+(?:therefore|thus|then|hence|simply|indeed|clearly|equal to|given by)\b)?\s*:?|:|=)"
)
_BETWEEN = r"(?:,? (?:then|therefore|thus|hence),?| (?:to|of|for|we|you|that|which)\b[^.\n:=<>$\d]{0,40}?)?"
_ANSWER = re.compile(
    rf"(?:answers?|final (?:result|value)|correct (?:option|choice))\**{_BETWEEN}\s*{_VERB}\**[ \t]*\n*", re.IGNORECASE
)
_HEADING = re.compile(r"answer[*:]*[ \t]*\n+", re.IGNORECASE)
_HEADING_BEFORE = re.compile(r"(?:^|\n)[ \t]*[#*]*[ \t]*(?:the )?(?:final )?\Z", re.IGNORECASE)
_START = re.compile(r"\banswer|\bfinal (?:result|value)|\bcorrect (?:option|choice)", re.IGNORECASE)
_CHINESE = re.compile(
    r"(?:答案|结果)\**(?:应该|应|就)?(?:[是为选]|】)?\**[：:]?\**\s*|(?<!不)[故应]填\s*[：:]?|(?:^|\n)答[：:]"
    r"|(?<![不非别没])(?<!不[应能该要会可])选(?:择|项)?\s*[是为]?\s*[：:]?\s*(?=[（(]?\s*[A-H]{1,6}(?![A-Za-z]))"
)
_CHINESE_END = re.compile(r"[。\n；;！]")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|[.!]?\**$|,?\s(?:because|since|which|so|as)\s", re.IGNORECASE)
_TWO_CHOICES = re.compile(r"\s*[A-H]\.\s[^.\n]{1,60}\b(?:or|and)\s+\(?[A-H][.)]")
_DISPLAY = re.compile(r"\s*(?:\\\[(.*?)\\\]|\$\$(.*?)\$\$)", re.DOTALL)
_NEXT_TO_IT = re.compile(
    r"(.{1,80}?)(?:[.;,]?\s+or\s+|[.;]\s+|[.;,]?\s*\n\s*)(?:the\s+)?(?:other\s+)?[#*\s]*", re.DOTALL | re.IGNORECASE
)
_FENCE_OR_BULLET = re.compile(r"(?:```\w*\s*\n|[-*+][ \t]+)")
_LAST_BOLD = re.compile(r"(?:.*=\s*)?\*\*([^*]+)\*\*\.?")
_CHINESE_PROSE = re.compile(
    "[\u4e00-\u9fff，,]*[\u4e00-\u9fff]\\s*(\\$?[-\u2212]?\\d[\\d.,/]*\\$?\\s*[%％]?\\s*[\u4e00-\u9fff]*)"
)
_DENIED = re.compile(r"\s*(?:并|可|绝|都)?(?:[不非未]|没有)")
_CHANGES_THE_NUMBER = re.compile(
    "[负非不未没加减乘除零一二三四五六七八九十百千万亿两半]|大于|小于|超过|至少|至多|[最起]多|最少|[低高多少]于|根号|分之"
)
"""Words before a number that change its value, or that mean that the number is not the answer."""
_LAST_LINE = re.compile(r"A:[ \t]*(.*)")
_PROSE = re.compile(r"[A-Z][A-Za-z ,']* (?:is|are|was|equals|of) (.+)")
_LIKE_AN_ANSWER = re.compile(
    r"(?![A-Za-z]{2,}(?![\w]*=)).*\d|\\[A-Za-z]+|[([]?[A-Z][)\]]?[.:]?(?:\s|$)|[A-Z](?:, ?[A-Z])+"
)
_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+|/\d+)?(?:\s?\\?%)?")
_BETWEEN_NUMBERS = re.compile(r"\s*(?:or|and|to|/|或|和)\s*\$?")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


def final_answer(reply: str, last_number: bool = False) -> str | None:
    """Return the answer as written, joining several answers with commas; None if there is none or it is too long."""
    answers = final_answers(reply, last_number)
    answer = ", ".join(answers)
    return answer if answers and len(answer) <= LONGEST_ANSWER else None


def final_answers(reply: str, last_number: bool = False) -> tuple[str, ...]:
    """Return the final answers of the reply, usually one. Empty if no answer is found."""
    found = [_clean(answer) for answer in _find(reply, last_number)]
    return tuple(found) if all(found) and sum(map(len, found)) <= LONGEST_ANSWER else ()


def _clean(answer: str) -> str:
    return _BOLD.sub(r"\1", answer.strip().lstrip("}")).strip().strip("*").strip().removesuffix("\\")


def _find(reply: str, last_number: bool) -> tuple[str, ...]:
    marks = [mark for mark in (boxed(reply), _hashes(reply), _tags(reply), _phrase(reply), _chinese(reply)) if mark]
    sure = [mark for mark in marks if mark is marks[0] or all(map(_plausible, mark.answers))]
    lines = reply.strip().splitlines() or [""]
    last = _LAST_LINE.fullmatch(lines[-1].strip())
    if last and (not marks or _plausible(last[1])):
        return (last[1],)
    if marks:
        chosen = max(sure, key=lambda mark: mark.start)
        in_box = chosen is marks[0] and boxed(reply) is not None
        return tuple(_tail(answer, last_number, in_box) for answer in chosen.answers)
    if match := _LAST_BOLD.fullmatch(lines[-1].strip()):
        return (match[1],)
    if len(lines) == 1 and not (last_number and _is_sentence(lines[0])):
        return (lines[0],)
    return _last_number(reply) if last_number else ()


def _plausible(answer: str) -> bool:
    """Whether a text begins like an answer, so that it may replace an earlier mark. In "The answer is correct.", the
    text after "is" does not begin like an answer."""
    text = answer.strip().strip("*$ \n").removeprefix(r"\(").removeprefix(r"\[").lstrip()
    return len(text) <= LONGEST_ANSWER and _LIKE_AN_ANSWER.match(text) is not None


def _tail(answer: str, last_number: bool, in_box: bool = False) -> str:
    """Return the value at the end of a sentence, such as 52 in "The area of the field is 52". In Chinese, a value is
    only extracted if no preceding word changes it, and not from a box, which already delimits the answer."""
    match = _PROSE.fullmatch(answer.strip())
    if match and _plausible(match[1]):
        return match[1]
    match = None if in_box else _CHINESE_PROSE.fullmatch(answer.strip())
    if match and not _CHANGES_THE_NUMBER.search(answer.strip()[: match.start(1)].replace("一共", "")):
        return match[1]
    if last_number and not _plausible(answer) and (numbers := _last_number(answer)):
        return ", ".join(numbers)
    return answer


def _hashes(reply: str) -> Found | None:
    found = [match for match in _HASHES.finditer(reply) if not _START.search(match[1])][-MOST_MARKS:]
    return _adjacent(reply, found)


def _tags(reply: str) -> Found | None:
    return _adjacent(reply, list(_TAGS.finditer(reply))[-MOST_MARKS:])


def _adjacent(reply: str, found: list[re.Match[str]]) -> Found | None:
    """Return the last match together with the preceding matches separated only by whitespace, a comma, "or" or
    "and"."""
    if not found:
        return None
    named = [found[-1]]
    for match in reversed(found[:-1]):
        if not re.fullmatch(r"\s*(?:or|and|,|或)?\s*", reply[match.end() : named[0].start()]):
            break
        named.insert(0, match)
    return Found(named[-1].start(1), tuple(match[1] for match in named))


def _phrase(reply: str) -> Found | None:
    """Return the answers after the last "the answer is" and after the adjacent phrases that precede it."""
    starts = [match.start() for match in _START.finditer(reply)][-MOST_MARKS:]
    found: list[tuple[int, int, str]] = []
    for start in reversed(starts):
        match = _ANSWER.match(reply, start)
        if match is None and _HEADING_BEFORE.search(reply[max(0, start - 40) : start]):
            match = _HEADING.match(reply, start)
        if match is None:
            continue
        if found:
            between = _NEXT_TO_IT.fullmatch(reply[match.end() : found[0][0]])
            if between is None or not _plausible(between[1]) or not _plausible(found[0][2]):
                break
        found.insert(0, (start, match.end(), _content(reply, match.end()) if not found else between[1]))
    return Found(found[-1][1], tuple(answer for *_, answer in found)) if found else None


def _content(reply: str, start: int) -> str:
    if match := _DISPLAY.match(reply, start, start + 2 * LONGEST_ANSWER):
        return (match[1] or match[2] or "").strip()
    if reply[start - 1 : start] == "\n" and (match := _FENCE_OR_BULLET.match(reply, start)):
        start = match.end()
    return _sentence(reply[start : start + 2 * LONGEST_ANSWER].partition("\n")[0].partition("</")[0])


def _chinese(reply: str) -> Found | None:
    found = list(_CHINESE.finditer(reply))[-1:]
    if not found:
        return None
    rest = reply[found[0].end() : found[0].end() + 2 * LONGEST_ANSWER]
    if _DENIED.match(rest):  # "the answer is not 5" does not state an answer
        return None
    if match := _DISPLAY.match(rest):
        return Found(found[0].end(), ((match[1] or match[2] or "").strip(),))
    return Found(found[0].end(), (_CHINESE_END.split(rest, maxsplit=1)[0].strip().rstrip("."),))


def _sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence. The full stop in 1.5 or inside $…$ does not."""
    text = text[: 2 * LONGEST_ANSWER]
    for match in _SENTENCE_END.finditer(text):
        if text[: match.start()].count("$") % 2 == 0 or "$" not in text[match.start() :]:
            return text if _TWO_CHOICES.match(text) else text[: match.start()]
    return text


def _is_sentence(line: str) -> bool:
    bare = re.sub(r"\\[A-Za-z]+", " ", line)
    told = re.match(r"[A-Za-z]{2,}.*\d", bare) is not None
    return told or "=" in bare or len(re.findall("[A-Za-z]{2,}", bare)) > MOST_WORDS_OF_AN_ANSWER


def _last_number(reply: str) -> tuple[str, ...]:
    """Return the last number, and the preceding numbers separated only by "or", "and", "to" or a slash, as in "41 or
    42"."""
    numbers = list(_NUMBER.finditer(reply))[-MOST_MARKS:]
    named = numbers[-1:]
    for match in reversed(numbers[:-1]):
        if not _BETWEEN_NUMBERS.fullmatch(reply[match.end() : named[0].start()]):
            break
        named.insert(0, match)
    return tuple(match[0] for match in named)
