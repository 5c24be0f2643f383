"""Verifier for multiple choice. `Problem.answer` is the letter of the correct option in `Problem.choices`.

An answer may state its choice as a letter or as the text of the option. Every statement of a choice (a "claim") counts:
boxes, `####` lines, "the answer is …", "Answer: …", `<answer>` tags. If the answer contains no claims, the whole answer
or its last line counts as a claim, provided that it consists of a choice alone. The verdict is wrong if claims state
different options, or if a single claim contains several options. A letter that is an ordinary word ("A dog") is not a
choice.

The tiers and their outcomes:

- `reference`: the reference is not the letter of an option → unverifiable.
- `extract`: no choice in the reply → wrong.
- `several`: more than one choice → wrong.
- `letter`: exactly one choice → right or wrong.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.answers.boxes import closing_brace
from thinkling.verify.verdict import Outcome, Verdict

LETTERS = string.ascii_uppercase
MOST_CLAIMS = 64
LONGEST = 2000
"""Maximum number of characters examined in a claim, or in the whole reply if there are no claims."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_ALSO = re.compile(
    r"[\s$*]*(?:\\[)\]])?\s*(?:[,;/]|\bor\b|\band\b|或者?|和)[\s$*]*(?:\\[(\[])?\s*(?:or\s+)?\(?([A-Za-z])\)?"
    r"(?=[\s$*)]*(?:\\[)\]])?[\s.!。]*(?:$|\n))"
)
"""A second letter after a box, at the end of the line."""
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_SAYS = re.compile(
    r"\b(?:answer|choice|option)\**\s*(?:\bis\b\s*(?:\*\*|:|\boption\b|\bchoice\b|\s)*|[:=]\**)[ \t]*\n?[ \t]*([^\n]*)"
    r"|答案(?:是|为)?\s*:?\s*([^\n。]*)|(?<!不)(?:故选|应选|选择)\s*:?\s*([^\n。]*)",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.!?。](?=\s|\**$)|[,;]\s+(?:because|since|which|as|so|where|for)\b", re.IGNORECASE)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit|mathsf|operatorname)\s*\{([^{}]*)\}")
_MARKS = " \t\r\n*_$`\"'“”‘’"
_LETTER = re.compile(r"\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])")
_AFTER = re.compile(r"\s*[.):\]]\s*|\s+[-–—]\s+|\s*$")
_AFTER_BRACKET = re.compile(r"\s*[.:]?\s*(?:[-–—]\s+)?")
_NAMED = re.compile(r"(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s+(?=\(?[A-Za-z]\b)", re.IGNORECASE)


def verify(problem: Problem, reading: Reading) -> Verdict:
    """Judge one answer. If `Problem.choices` is empty, all letters are valid, and answers cannot be given as option
    text."""
    reference, choices = problem.answer.strip().upper(), problem.choices
    allowed = LETTERS[: len(choices)] if choices else LETTERS
    if len(reference) != 1 or reference not in allowed:
        return Verdict(Outcome.UNVERIFIABLE, "reference", f"{problem.answer!r} is not a letter of the options")
    if reading.answer is None:
        return Verdict(Outcome.WRONG, "extract", "no readable answer")
    named = chosen(reading.answer, choices)
    if not named:
        return Verdict(Outcome.WRONG, "extract", "no choice in the reply")
    if named == {"?"}:
        return Verdict(Outcome.WRONG, "extract", "the reply names no single option")
    if len(named) > 1:
        return Verdict(Outcome.WRONG, "several", ", ".join(sorted(named)))
    (letter,) = named
    return Verdict(Outcome.RIGHT if letter == reference else Outcome.WRONG, "letter", letter)


def chosen(reply: str, choices: Sequence[str] = ()) -> set[str]:
    """Return the letters that a reply states as its answer. `?` represents a claim that is not a single option."""
    reply = unicodedata.normalize("NFKC", reply)
    claims = _claims(reply)
    if claims:
        return {_read(text, choices, prose) or "?" for text, prose in claims[-MOST_CLAIMS:]}
    whole = reply.strip()
    if len(whole) <= LONGEST and (letter := _read(whole, choices)):
        return {letter}
    lines = [line for line in whole.splitlines() if line.strip()] if len(whole) <= 100 * LONGEST else []
    last = _read(lines[-1], choices) if len(lines) > 1 else None
    if last is None:
        return set()
    others = {letter for line in lines[:-1] if (letter := _bare(line, choices))}
    return {last} | others


def _claims(reply: str) -> list[tuple[str, bool]]:
    """Return the claims of a reply in order, each with a flag that marks claims in running text."""
    found: list[tuple[int, str, bool]] = []
    covered: list[range] = []
    for match in _BOX.finditer(reply):
        end = closing_brace(reply, match.end())
        if end is not None and not any(match.start() in span for span in covered):
            found.append((match.start(), reply[match.end() + 1 : end], False))
            if also := _ALSO.match(reply, end + 1):
                found.append((also.start(), also[1], False))
            covered.append(range(match.start(), end + 1))
    for pattern in (_TAG, _HASHES, _SAYS):
        for match in pattern.finditer(reply):
            text = next(group for group in match.groups() if group is not None)
            if not any(match.start() in span for span in covered) and not _BOX.search(text):
                prose = pattern is _SAYS
                found.append((match.start(), _first_clause(text) if prose else text, prose))
    return [(text, prose) for _, text, prose in sorted(found) if text.strip(_MARKS)]


def _first_clause(text: str) -> str:
    """Return the text up to the end of the sentence or the start of a justification."""
    text = text[:LONGEST]
    # In "C. Paris", the full stop after the letter does not end the sentence, because the option's text follows.
    start = re.match(r"\W*[A-Za-z][.)]\s", text)
    match = _CLAUSE_END.search(text, start.end() if start else 0)
    return text[: match.start()] if match else text


def _read(claim: str, choices: Sequence[str], prose: bool = False) -> str | None:
    """Return the letter of the option in a claim, or None if the claim contains no option or more than one. `prose`: a
    second sentence is allowed after the option if the sentence mentions no option."""
    text = _plain(claim)
    by_text = [LETTERS[i] for i, choice in enumerate(choices) if _same(text, choice)]
    letter = _bare(text, choices)
    if letter is not None:
        return letter
    if len(by_text) == 1:
        return by_text[0]
    match = _LETTER.match(text)
    if match is None:
        return None
    letter = next(group for group in match.groups() if group).upper()
    after = (_AFTER if match[3] else _AFTER_BRACKET).match(text, match.end())
    if after is None or not _allowed(letter, choices):
        return None
    rest = text[after.end() :]
    if choices and _same(rest, choices[LETTERS.index(letter)]):
        return letter
    another = any(_same(rest, choice) for choice in choices) or any(
        _allowed(word, choices) for word in re.findall(r"\b[A-Z]\b", rest)
    )
    return letter if prose and after[0].strip() == "." and not another else None


def _bare(claim: str, choices: Sequence[str]) -> str | None:
    """Return the letter of a claim that consists of a letter alone ("C", "(c)", "C.", "option C"), or None."""
    text = _plain(claim)
    text = text[named.end() :] if (named := _NAMED.match(text)) else text
    match = _LETTER.match(text)
    if match is None or text[match.end() :].strip(_MARKS) not in ("", ".", ")", ":", "!", "。", ").", ".)"):
        return None
    letter = next(group for group in match.groups() if group).upper()
    return letter if _allowed(letter, choices) else None


def _allowed(letter: str, choices: Sequence[str]) -> bool:
    return letter in (LETTERS[: len(choices)] if choices else LETTERS)


def _plain(text: str) -> str:
    text = text.strip(_MARKS)
    while (unwrapped := _WRAPPED.sub(r"\1", text)) != text:
        text = unwrapped
    return text.strip(_MARKS)


def _same(text: str, choice: str) -> bool:
    return _compared(text) == _compared(choice) != ""


def _compared(text: str) -> str:
    """Normalize the text of an option for comparison, ignoring case, spacing, markup and a final full stop."""
    text = _plain(unicodedata.normalize("NFKC", text))
    return " ".join(text.replace("\\(", "").replace("\\)", "").casefold().split()).rstrip(". ").strip(_MARKS)
