"""The rules by which examples are graded where no model is served: one function a tag.

A grade is a line between two stated values of one quantity, cut off at 0 and 9 (`_ramp`). Damage that was done on
purpose lowers the tags that it spoils by what is known of its extent. Of a long text the rules read beginning, middle
and end, as a served model does; code is parsed whole.
"""

from __future__ import annotations

import ast
import math
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from thinkling.data.reading import Reading
from thinkling.puzzles.pages import document, document_answer
from thinkling.stages.curate.annotate import Example
from thinkling.stages.curate.surface import GRAMMAR_WORDS, excerpt
from thinkling.stages.curate.tags import HIGHEST, Grades
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SENTENCE = re.compile(r"[^.!?\n]+(?:\n(?!\n)[^.!?\n]+)*[.!?]*")
_CONNECTIVE = re.compile(
    r"\b(?:because|therefore|thus|hence|consequently|so that|if|unless|although|however|whereas|since|otherwise"
    r"|as a result|in order to|which means|due to|first|second|then|finally|instead)\b",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"^\s*(?:if|elif|else|for|while|try|except|return|raise|assert|with|yield)\b", re.MULTILINE)
_COMMENT = re.compile(r'^\s*(?:#|""")', re.MULTILINE)
_TEACHING = re.compile(
    r"\b(?:for example|for instance|e\.g\.|i\.e\.|such as|that is|means|called|known as|defined|refers to|note that"
    r"|example|returns?|used (?:to|for|by|as)|consists? of|an? \w+ (?:is|that)|are \w+ (?:that|which))\b|^>>>",
    re.IGNORECASE | re.MULTILINE,
)
_SELLING = re.compile(
    r"\b(?:buy|prices?|sale|free|offers?|discount|shop|order now|cart|deals?|best|shipping|subscribe|download now"
    r"|guaranteed?|click|sign up|call (?:us|now)|contact us|amazing|perfect|exclusive|limited|win)\b|[$€£]\d|!",
    re.IGNORECASE,
)
_POINTER = re.compile(
    r"\b(?:click here|read more|see (?:above|below|also)|more info|next|previous|home|comments?|reply|log ?in|register"
    r"|share|posted|page \d+|figure|table \d|continued?|view|search|follow us|this (?:page|site|post|link))\b"
    r"|https?://\S+|www\.\S+",
    re.IGNORECASE,
)
_CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.\w+|(?:\+\d|\(\d{3}\)|\b\d{3}[-. ]\d{3})[\d() .-]{4,}\d")
_FACT = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+|\b\d[\d.,:]*\b|[\"“‘'`*][^\"”’'`*\n]{2,40}[\"”’'`*]")
_RESIDUE = re.compile(
    r"</?[a-zA-Z][^<>\n]{0,100}>|&(?:[a-z]{2,8}|#\d{1,6});|\ufffd|â€|Ã.|[\x00-\x08\x0b-\x1f]|[|»›·•]|\[edit\]"
    r"|\b(?:log in|share this|all rights reserved|copyright ©)",
    re.IGNORECASE,
)
_TERM = re.compile(r"\b(?:\w+_\w+|\w+\.\w{2,}|[a-z]+[A-Z]\w*|[A-Z]{2,}\w*|[^\W\d_]{9,})\b")
_PAGE = re.compile(r"[a-z]+ \S+?(?:=[^\n]+|:.+\.[^\n]+)\n", re.DOTALL)
_CHEAP = ("exact", "calculator")
"""Verifiers that only compare. Others may want a sandbox or a model: there a page is held against its own problem."""
_SPOILING = {
    "correctness": {"characters": 3.0, "symbols": 2.0, "order": 1.5, "mixture": 1.5, "cut": 0.5, "case": 0.3},
    "coherence": {"order": 1.5, "mixture": 1.5, "characters": 0.8, "repetition": 0.8, "residue": 0.8, "cut": 0.3},
    "reasoning": {"order": 1.2, "mixture": 1.2, "characters": 0.8},
    "explanation": {"order": 1.2, "mixture": 1.0, "characters": 1.0},
    "language": {"order": 1.2, "characters": 0.8},
    "spelling": {"characters": 1.5},
}
"""Tag → kind of damage → by what multiple of the damaged share its grade is lowered."""


class RuleAnnotator:
    """Grades by rule. `lexicon`: words, in lower case, that count as spelt right."""

    def __init__(self, lexicon: Collection[str]) -> None:
        self._lexicon = frozenset(lexicon)

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        """Grades of each example; `correctness` is left out where nothing can be checked."""
        return [self._grades(example) for example in examples]

    def _grades(self, example: Example) -> Grades:
        facts = _Facts(example, self._lexicon)
        grades: dict[str, int] = {}
        for name, rule in RULES.items():
            value = rule(facts)
            if value is None:
                continue
            if example.problem is None:
                value *= max(0.0, 1 - _SPOILING.get(name, {}).get(example.damage, 0.0) * example.share)
            grades[name] = min(HIGHEST, max(0, round(value)))
        return grades


@dataclass(frozen=True)
class PageCheck:
    """What a verifier finds on a puzzle page."""

    answered: bool
    """Whether there is an answer."""
    right: bool
    """Whether it is the right one."""
    working: float | None
    """Share of the right working's symbols that stand in their place; None where the page shows no working."""

    @property
    def sound(self) -> bool:
        """Whether everything on the page is right."""
        return self.right and self.working in (None, 1.0)


def check_page(problem: Problem, text: str) -> PageCheck:
    """Has the answer on a page verified, and holds the working against the right one."""
    rest = text[len(problem.question) :]
    if rest.startswith("="):
        answer, working = rest[1:].strip(), None
    else:
        answer = document_answer(rest[1:])
        start = len(problem.question) + 1
        wanted, found = document(problem)[start:], text[start:]
        working = sum(a == b for a, b in zip(wanted, found, strict=False)) / max(len(wanted), len(found), 1)
    if problem.verifier in _CHEAP:
        right = bool(answer) and verify(problem, Reading.of(answer)).outcome is Outcome.RIGHT
    else:
        right = rest.endswith(f"{'=' if working is None else '.'}{problem.answer}\n")
    return PageCheck(bool(answer), right, working)


class _Facts:
    """An example and what several rules ask of it, worked out once."""

    def __init__(self, example: Example, lexicon: frozenset[str]) -> None:
        self.example = example
        self.text = excerpt(example.text)
        self.lexicon = lexicon
        self.is_code = example.matter == "code"
        self.page = None if example.problem is None else check_page(example.problem, example.text)

    @cached_property
    def words(self) -> list[str]:
        return _WORD.findall(self.text)

    @cached_property
    def lower(self) -> list[str]:
        return [word.lower() for word in self.words]

    @cached_property
    def n_words(self) -> int:
        return max(len(self.words), 1)

    @cached_property
    def sentences(self) -> list[str]:
        return [s for s in (found.strip() for found in _SENTENCE.findall(self.text)) if any(map(str.isalpha, s))]

    @cached_property
    def paragraphs(self) -> list[str]:
        """Blocks between blank lines where there are any, else lines."""
        blocks = re.split(r"\n\s*\n", self.text) if re.search(r"\n\s*\n", self.text) else self.text.split("\n")
        return [block.strip() for block in blocks if block.strip()]

    @cached_property
    def parses(self) -> bool:
        try:
            ast.parse(self.example.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True

    def per_hundred_words(self, pattern: re.Pattern[str]) -> float:
        return 100 * sum(1 for _ in pattern.finditer(self.text)) / max(self.n_words, 20)

    def per_hundred_lines(self, pattern: re.Pattern[str]) -> float:
        return 100 * sum(1 for _ in pattern.finditer(self.text)) / max(self.text.count("\n"), 5)


def _ramp(value: float, low: float, high: float) -> float:
    """0 at `low`, 9 at `high`, a line between; `low` may be the larger one."""
    return HIGHEST * min(1.0, max(0.0, (value - low) / (high - low)))


def _correctness(facts: _Facts) -> float | None:
    """Page: 9 if answer and working are right, up to 8 with a right answer, up to 4 with a wrong one, by the share of
    the working that is right. Code: 9 if it parses, else 4. Library prose: 9. Other text cannot be checked."""
    if facts.page is not None:
        working = 1.0 if facts.page.working is None else facts.page.working
        if facts.page.right:
            return HIGHEST if working == 1.0 else min(8.0, 3 + 5 * working)
        return 0.0 if facts.page.working is None else 4 * working
    if facts.is_code:
        return HIGHEST if facts.parses else 4.0
    return HIGHEST if facts.example.matter == "prose" else None


def _reasoning(facts: _Facts) -> float:
    """Page: 1 without working, else 2 to 9 by the share that is right. Code: lines of control flow, 5 to 35 in 100.
    Prose: connectives, 0.2 to 3 in 100 words."""
    if facts.page is not None:
        return 1.0 if facts.page.working is None else 2 + 7 * max(0.0, 2 * facts.page.working - 1)
    if facts.is_code:
        return _ramp(facts.per_hundred_lines(_CONTROL), 5, 35)
    return _ramp(facts.per_hundred_words(_CONNECTIVE), 0.2, 3)


def _completeness(facts: _Facts) -> float:
    """Page: 9 with question, answer and end of line, else 2. Code: 9 if it parses, else 3. Prose: 3 each for an opening
    capital or mark, a closing mark, and brackets that match."""
    if facts.page is not None:
        return HIGHEST if facts.page.answered and _PAGE.fullmatch(facts.text) else 2.0
    if facts.is_code:
        return HIGHEST if facts.parses else 3.0
    text = facts.text.strip()
    opened = sum(map(text.count, "([{"))
    closed = sum(map(text.count, ")]}"))
    first = text[:1]
    starts = first.isupper() or first.isdigit() or first in tuple("\"“'*#(`<")
    return 3.0 * (starts + (text[-1:] in tuple('.!?"”)`:')) + (abs(opened - closed) <= 0.05 * (opened + closed)))


def _coherence(facts: _Facts) -> float | None:
    """Page: as reasoning. Else the share of a stretch of 25 content words that stood in the two before it, 0% to 40%;
    unknown for fewer than two stretches."""
    if facts.page is not None:
        return _reasoning(facts)
    content = [word for word in facts.lower if word not in GRAMMAR_WORDS and len(word) > 2]
    stretches = [content[i : i + 25] for i in range(0, len(content) - 24, 25)]
    if len(stretches) < 2:
        return None
    shares = []
    for i in range(1, len(stretches)):
        known = {word for stretch in stretches[max(0, i - 2) : i] for word in stretch}
        shares.append(sum(word in known for word in stretches[i]) / 25)
    return _ramp(sum(shares) / len(shares), 0.0, 0.4)


def _explanation(facts: _Facts) -> float:
    """Page: half of reasoning. Code: lines of comment or docstring, 0 to 25 in 100. Prose: definitions, examples and
    purposes, 0 to 3 in 100 words."""
    if facts.page is not None:
        return _reasoning(facts) / 2
    if facts.is_code:
        return _ramp(facts.per_hundred_lines(_COMMENT), 0, 25)
    return _ramp(facts.per_hundred_words(_TEACHING), 0, 3)


def _density(facts: _Facts) -> float:
    """Size after compression over size before, 0.25 to 0.65 (short texts: distinct words, 50% to 100%)."""
    data = facts.text.encode(errors="replace")
    if len(data) < 400:
        return _ramp(len(set(facts.lower)) / facts.n_words, 0.5, 1.0)
    return _ramp(len(zlib.compress(data, 6)) / len(data), 0.25, 0.65)


def _depth(facts: _Facts) -> float:
    """Terms: long words, identifiers, abbreviations; 3 to 30 in 100 words."""
    return _ramp(facts.per_hundred_words(_TERM), 3, 30)


def _specificity(facts: _Facts) -> float:
    """Names, numbers and quoted titles, 0 to 4 a sentence."""
    return _ramp(sum(1 for _ in _FACT.finditer(facts.text)) / max(len(facts.sentences), 1), 0, 4)


def _self_contained(facts: _Facts) -> float:
    """Links and words that point out of the text, 4 down to 0 in 100 words."""
    return _ramp(facts.per_hundred_words(_POINTER), 4, 0)


def _impartial(facts: _Facts) -> float:
    """Words of selling, prices and exclamation marks, 4 down to 0 in 100 words."""
    return _ramp(facts.per_hundred_words(_SELLING), 4, 0)


def _privacy(facts: _Facts) -> float:
    """Mail addresses and telephone numbers: 9 for none, two lower with each."""
    return HIGHEST - 2.0 * sum(1 for _ in _CONTACT.finditer(facts.text))


def _variety(facts: _Facts) -> float:
    """Share of lines that stood there before plus share of runs of five words that did, 30% down to 0%."""
    lines = [line.strip() for line in facts.text.split("\n") if line.strip()]
    runs = list(zip(*(facts.lower[i:] for i in range(5)), strict=False))
    repeated = (1 - len(set(lines)) / len(lines) if lines else 0) + (1 - len(set(runs)) / len(runs) if runs else 0)
    return _ramp(repeated, 0.3, 0.0)


def _prose(facts: _Facts) -> float:
    """Share of the words that stand in paragraphs of ten words and more with at least a fifth of grammar words."""
    inside = 0
    for paragraph in facts.paragraphs:
        words = _WORD.findall(paragraph)
        if len(words) >= 10 and sum(word.lower() in GRAMMAR_WORDS for word in words) >= 0.2 * len(words):
            inside += len(words)
    return HIGHEST * inside / facts.n_words


def _language(facts: _Facts) -> float:
    """Share of grammar words, 10% to 45%."""
    return _ramp(sum(word in GRAMMAR_WORDS for word in facts.lower) / facts.n_words, 0.10, 0.45)


def _spelling(facts: _Facts) -> float | None:
    """Share of the words of four letters and more that the pool knows, 50% to 95%; unknown for fewer than five."""
    words = [word for word in facts.lower if len(word) >= 4]
    if len(words) < 5:
        return None
    return _ramp(sum(word in facts.lexicon for word in words) / len(words), 0.5, 0.95)


def _casing(facts: _Facts) -> float | None:
    """Share of the sentences that start with a capital, less twice what capitals exceed 15% of the letters by; unknown
    for code and pages."""
    if facts.page is not None or facts.is_code:
        return None
    letters = [c for c in facts.text if c.isalpha()]
    if not letters or not facts.sentences:
        return 0.0
    firsts = [next(c for c in sentence if c.isalpha()) for sentence in facts.sentences]
    capitals = sum(c.isupper() for c in letters) / len(letters)
    return HIGHEST * (sum(c.isupper() for c in firsts) / len(firsts) - 2 * max(0.0, capitals - 0.15))


def _punctuation(facts: _Facts) -> float | None:
    """Share of the paragraphs that end in a mark, less the share of sentences above 60 words; unknown for pages."""
    if facts.page is not None:
        return None
    ended = sum(paragraph[-1] in ".!?:;\"”')" for paragraph in facts.paragraphs) / max(len(facts.paragraphs), 1)
    long = sum(len(sentence.split()) > 60 for sentence in facts.sentences) / max(len(facts.sentences), 1)
    return HIGHEST * (ended - long)


def _layout(facts: _Facts) -> float:
    """Words a paragraph, weighted by words: 4 to 40 rising, 150 to 600 falling."""
    sizes = [len(paragraph.split()) for paragraph in facts.paragraphs]
    mean = sum(size * size for size in sizes) / max(sum(sizes), 1)
    return min(_ramp(mean, 4, 40), _ramp(mean, 600, 150))


def _clean_markup(facts: _Facts) -> float:
    """Tags, entities, broken encodings, menu signs: 10 down to 0 in 1,000 characters."""
    return _ramp(1000 * sum(1 for _ in _RESIDUE.finditer(facts.text)) / max(len(facts.text), 200), 10, 0)


def _length(facts: _Facts) -> float:
    """Logarithm of the number of words, 5 to 1,500."""
    return _ramp(math.log(facts.n_words), math.log(5), math.log(1500))


RULES: dict[str, Callable[[_Facts], float | None]] = {
    "correctness": _correctness,
    "reasoning": _reasoning,
    "completeness": _completeness,
    "coherence": _coherence,
    "explanation": _explanation,
    "density": _density,
    "depth": _depth,
    "specificity": _specificity,
    "self_contained": _self_contained,
    "impartial": _impartial,
    "privacy": _privacy,
    "variety": _variety,
    "prose": _prose,
    "language": _language,
    "spelling": _spelling,
    "casing": _casing,
    "punctuation": _punctuation,
    "layout": _layout,
    "clean_markup": _clean_markup,
    "length": _length,
}
"""Tag → its rule: the grade before rounding and damage, None where it cannot be judged."""
