"""The built-in rules that grade examples without a served model, one function per tag.

The rules use information that the labeller lacks: the syntax tree of code, the words of the pool, and the damaged
fraction of an example. Most grades are a linear function of one quantity, clipped to 0 and 9 (`_ramp`); the docstring
of each rule states the quantity, and its values at grades 0 and 9. Artificial damage lowers the affected grades in
proportion to the damaged fraction.

If the source provides ground truth about a record (`data.truth.Truth`), the truth determines the grades of the tags
that it covers. No grade of a record with ground truth is reduced for damage, because the truth is computed from the
text as it is, damaged or not.

Of a long text, the rules read the beginning, middle and end, as a served model does; code is parsed in full.
"""

from __future__ import annotations

import ast
import math
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from functools import cached_property

from thinkling.quality.annotator import Example
from thinkling.quality.surface import GRAMMAR_WORDS, excerpt
from thinkling.quality.tags import HIGHEST, Grades

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
_SPOILING = {
    "correctness": {"characters": 3.0, "symbols": 2.0, "order": 1.5, "mixture": 1.5, "cut": 0.5, "case": 0.3},
    "coherence": {"order": 1.5, "mixture": 1.5, "characters": 0.8, "repetition": 0.8, "residue": 0.8, "cut": 0.3},
    "reasoning": {"order": 1.2, "mixture": 1.2, "characters": 0.8},
    "explanation": {"order": 1.2, "mixture": 1.0, "characters": 1.0},
    "language": {"order": 1.2, "characters": 0.8},
    "spelling": {"characters": 1.5},
}
"""Tag → kind of damage → factor. Damage multiplies the grade by 1 − factor · damaged fraction (at least 0)."""


class RuleAnnotator:
    """An annotator that applies the rules. `lexicon`: lower-case words that count as spelt correctly."""

    def __init__(self, lexicon: Collection[str]) -> None:
        self._lexicon = frozenset(lexicon)

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        """Return the grades of each example, omitting the tags that cannot be judged, such as `correctness` of text
        that cannot be checked."""
        return [self._grades(example) for example in examples]

    def _grades(self, example: Example) -> Grades:
        facts = _Facts(example, self._lexicon)
        decided = {} if example.truth is None else example.truth.grades(example.text)
        grades: dict[str, int] = {}
        for name, rule in RULES.items():
            value = decided[name] if name in decided else rule(facts)
            if value is None:
                continue
            if example.truth is None:
                value *= max(0.0, 1 - _SPOILING.get(name, {}).get(example.damage, 0.0) * example.damaged_fraction)
            grades[name] = min(HIGHEST, max(0, round(value)))
        return grades


class _Facts:
    """An example with quantities that several rules share, each computed once."""

    def __init__(self, example: Example, lexicon: frozenset[str]) -> None:
        self.example = example
        self.text = excerpt(example.text)
        self.lexicon = lexicon
        self.is_code = example.matter == "code"

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
        """Blocks separated by blank lines, or lines if the text has no blank line."""
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
    """Return 0 at `low`, 9 at `high`, and a linear function in between. `low` may exceed `high`."""
    return HIGHEST * min(1.0, max(0.0, (value - low) / (high - low)))


def _correctness(facts: _Facts) -> float | None:
    """Code: 9 if the code parses, otherwise 4. Prose: 9, because the source vouches for its prose. Other text cannot be
    checked."""
    if facts.is_code:
        return HIGHEST if facts.parses else 4.0
    return HIGHEST if facts.example.matter == "prose" else None


def _reasoning(facts: _Facts) -> float:
    """Code: control-flow statements per 100 lines, from 5 to 35. Prose: connectives per 100 words, from 0.2 to 3."""
    if facts.is_code:
        return _ramp(facts.per_hundred_lines(_CONTROL), 5, 35)
    return _ramp(facts.per_hundred_words(_CONNECTIVE), 0.2, 3)


def _completeness(facts: _Facts) -> float:
    """Code: 9 if the code parses, otherwise 3. Prose: 3 points each for starting with a capital, digit or mark, for
    ending with a mark, and for matching brackets."""
    if facts.is_code:
        return HIGHEST if facts.parses else 3.0
    text = facts.text.strip()
    opened = sum(map(text.count, "([{"))
    closed = sum(map(text.count, ")]}"))
    first = text[:1]
    starts = first.isupper() or first.isdigit() or first in tuple("\"“'*#(`<")
    return 3.0 * (starts + (text[-1:] in tuple('.!?"”)`:')) + (abs(opened - closed) <= 0.05 * (opened + closed)))


def _coherence(facts: _Facts) -> float | None:
    """Average fraction of the words in a span of 25 content words that also occur in the two preceding spans, from 0%
    to 40%. Unknown if there are fewer than two spans."""
    content = [word for word in facts.lower if word not in GRAMMAR_WORDS and len(word) > 2]
    stretches = [content[i : i + 25] for i in range(0, len(content) - 24, 25)]
    if len(stretches) < 2:
        return None
    fractions = []
    for i in range(1, len(stretches)):
        known = {word for stretch in stretches[max(0, i - 2) : i] for word in stretch}
        fractions.append(sum(word in known for word in stretches[i]) / 25)
    return _ramp(sum(fractions) / len(fractions), 0.0, 0.4)


def _explanation(facts: _Facts) -> float:
    """Code: comments and docstrings per 100 lines, from 0 to 25. Prose: phrases that introduce definitions, examples
    and purposes per 100 words, from 0 to 3."""
    if facts.is_code:
        return _ramp(facts.per_hundred_lines(_COMMENT), 0, 25)
    return _ramp(facts.per_hundred_words(_TEACHING), 0, 3)


def _density(facts: _Facts) -> float:
    """Ratio of compressed to original size, from 0.25 to 0.65; for short texts, fraction of distinct words, from 50% to
    100%."""
    data = facts.text.encode(errors="replace")
    if len(data) < 400:
        return _ramp(len(set(facts.lower)) / facts.n_words, 0.5, 1.0)
    return _ramp(len(zlib.compress(data, 6)) / len(data), 0.25, 0.65)


def _depth(facts: _Facts) -> float:
    """Technical terms (long words, identifiers, abbreviations) per 100 words, from 3 to 30."""
    return _ramp(facts.per_hundred_words(_TERM), 3, 30)


def _specificity(facts: _Facts) -> float:
    """Names, numbers and quoted titles per sentence, from 0 to 4."""
    return _ramp(sum(1 for _ in _FACT.finditer(facts.text)) / max(len(facts.sentences), 1), 0, 4)


def _self_contained(facts: _Facts) -> float:
    """Links and words that refer to something outside the text per 100 words, from 4 down to 0."""
    return _ramp(facts.per_hundred_words(_POINTER), 4, 0)


def _impartial(facts: _Facts) -> float:
    """Sales language, prices and exclamation marks per 100 words, from 4 down to 0."""
    return _ramp(facts.per_hundred_words(_SELLING), 4, 0)


def _privacy(facts: _Facts) -> float:
    """Email addresses and telephone numbers: 9 if there are none, minus 2 for each."""
    return HIGHEST - 2.0 * sum(1 for _ in _CONTACT.finditer(facts.text))


def _variety(facts: _Facts) -> float:
    """Fraction of repeated lines plus fraction of repeated runs of five words, from 30% down to 0%."""
    lines = [line.strip() for line in facts.text.split("\n") if line.strip()]
    runs = list(zip(*(facts.lower[i:] for i in range(5)), strict=False))
    repeated = (1 - len(set(lines)) / len(lines) if lines else 0) + (1 - len(set(runs)) / len(runs) if runs else 0)
    return _ramp(repeated, 0.3, 0.0)


def _prose(facts: _Facts) -> float:
    """Fraction of words that are in paragraphs of at least ten words of which at least a fifth are grammar words."""
    inside = 0
    for paragraph in facts.paragraphs:
        words = _WORD.findall(paragraph)
        if len(words) >= 10 and sum(word.lower() in GRAMMAR_WORDS for word in words) >= 0.2 * len(words):
            inside += len(words)
    return HIGHEST * inside / facts.n_words


def _language(facts: _Facts) -> float:
    """Fraction of grammar words, from 10% to 45%."""
    return _ramp(sum(word in GRAMMAR_WORDS for word in facts.lower) / facts.n_words, 0.10, 0.45)


def _spelling(facts: _Facts) -> float | None:
    """Fraction of the words with four or more letters that are in the lexicon, from 50% to 95%. Unknown if the text has
    fewer than five words of this length."""
    words = [word for word in facts.lower if len(word) >= 4]
    if len(words) < 5:
        return None
    return _ramp(sum(word in facts.lexicon for word in words) / len(words), 0.5, 0.95)


def _casing(facts: _Facts) -> float | None:
    """Fraction of sentences that start with a capital, minus twice the amount by which the fraction of capitals among
    letters exceeds 15%. Unknown for code."""
    if facts.is_code:
        return None
    letters = [c for c in facts.text if c.isalpha()]
    if not letters or not facts.sentences:
        return 0.0
    firsts = [next(c for c in sentence if c.isalpha()) for sentence in facts.sentences]
    capitals = sum(c.isupper() for c in letters) / len(letters)
    return HIGHEST * (sum(c.isupper() for c in firsts) / len(firsts) - 2 * max(0.0, capitals - 0.15))


def _punctuation(facts: _Facts) -> float:
    """Fraction of paragraphs that end with a punctuation mark, minus the fraction of sentences longer than 60 words."""
    ended = sum(paragraph[-1] in ".!?:;\"”')" for paragraph in facts.paragraphs) / max(len(facts.paragraphs), 1)
    long = sum(len(sentence.split()) > 60 for sentence in facts.sentences) / max(len(facts.sentences), 1)
    return HIGHEST * (ended - long)


def _layout(facts: _Facts) -> float:
    """Mean words per paragraph, weighted by words. The grade rises from 4 to 40 words and falls from 150 to 600."""
    sizes = [len(paragraph.split()) for paragraph in facts.paragraphs]
    mean = sum(size * size for size in sizes) / max(sum(sizes), 1)
    return min(_ramp(mean, 4, 40), _ramp(mean, 600, 150))


def _clean_markup(facts: _Facts) -> float:
    """Tags, entities, encoding errors and menu text per 1,000 characters, from 10 down to 0."""
    return _ramp(1000 * sum(1 for _ in _RESIDUE.finditer(facts.text)) / max(len(facts.text), 200), 10, 0)


def _length(facts: _Facts) -> float:
    """Logarithm of the number of words, from 5 to 1,500."""
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
"""Tag → rule. A rule returns the grade before rounding and reduction for damage, or None if the tag cannot be
judged."""
