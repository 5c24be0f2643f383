"""Surface statistics of a text: cheap counts that the labeller uses together with the text's LSA vector.

All statistics are functions of the text alone: `measure` has no other argument, so that sources, file names and damaged
fractions cannot influence them. Long texts are first reduced to their beginning, middle and end (the rule of
Essential-Web, arXiv 2506.14111).
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from itertools import pairwise

EXCERPT = 4_000
"""Number of characters read at each of the beginning, middle and end of a long text."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")
_CUES: dict[str, list[str]] = {
    name: words.split()
    for name, words in {
        "connectives": "because therefore thus hence since if then unless although however whereas while but otherwise "
        "so consequently instead finally",
        "teaching": "example examples means called known defined refers note explain explains return returns used "
        "consists describes introduces such",
        "selling": "buy price prices sale free offer offers discount shop cart deal deals best shipping subscribe "
        "download guarantee guaranteed amazing perfect exclusive win",
        "pointers": "click next previous home comment comments reply login log register share posted copyright "
        "reserved rights menu search tags follow view read",
        "first_person": "i me my we our us",
        "second_person": "you your yours",
        "third_person": "he she they his her their its it",
        "past": "was were had did been said made became",
        "modal": "may might could would should must can",
    }.items()
}
_CUE_OF = {word: place for place, cue in enumerate(_CUES.values()) for word in cue}
_MARKS = {
    "tags": re.compile(r"</?[a-zA-Z][^<>\n]{0,80}>"),
    "entities": re.compile(r"&(?:[a-z]{2,8}|#\d{1,6});|\ufffd|Ã.|â€"),
    "links": re.compile(r"://|www\.|\.(?:com|org|net)\b"),
    "contacts": re.compile(r"\w@\w|\d[\d() -]{7,}\d"),
    "names": re.compile(r"(?<=[a-z,] )[A-Z][a-z]+"),
    "numbers": re.compile(r"\d+(?:[.,]\d+)*"),
    "years": re.compile(r"\b(?:1[5-9]|20)\d\d\b"),
    "code": re.compile(r"\b(?:def|return|import|class|self|None|elif|const|void|int)\b|==|\(\)|[{};]$", re.MULTILINE),
    "runs": re.compile(r"([^\w\s]|[A-Za-z])\1\1"),
    "pipes": re.compile(r"[|•·»›]"),
}
_GRAMMAR = (
    "the of and to in a is that for it as was with be by on not he i his but at are this have from or had an they which"
    " one you were all her she there would their we him been has when who will no more if out so what up into than its"
    " about some them can could only other do does may must should these those where while how each"
)
GRAMMAR_WORDS = frozenset(_GRAMMAR.split())
"""Function words, which make up about a third of running text."""
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_SYMBOL_RUN = re.compile(r"[A-Z]|\d+|[^\w\s]")
_CODE_PUNCTUATION = frozenset("{}[]<>=_#*\\/+~^$%&@")

NAMES: tuple[str, ...] = (
    "characters", "words", "word_length", "long_words", "huge_words", "distinct_words", "grammar_words", "capitals",
    "capital_words", "digits", "spaces", "code_marks", "beyond_ascii", "entropy", "compression", "vowelless",
    "lines", "line_length", "short_lines", "long_lines", "ended_lines", "bulleted_lines", "indented_lines",
    "repeated_lines", "blank_lines", "sentences", "sentence_length", "sentence_capitals", "commas", "questions",
    "exclamations", "quotes", "brackets", "open_brackets", "starts_capital", "ends_mark", "repeated_runs",
    "echo_pairs", "echo_triples", "echo_end", "end_repeats", "end_overlap", "head_overlap", "ordered_letters",
    *_CUES, *_MARKS,
)  # fmt: skip


def excerpt(text: str) -> str:
    """Return the text or, if it is long, its beginning, middle and end."""
    if len(text) <= 3 * EXCERPT:
        return text
    middle = (len(text) - EXCERPT) // 2
    return f"{text[:EXCERPT]}\n{text[middle : middle + EXCERPT]}\n{text[-EXCERPT:]}"


def measure(text: str) -> list[float]:
    """Return one number for each of `NAMES`. Most are fractions; sizes are logarithms, and cues are logarithms of
    counts per hundred words."""
    part = excerpt(text)
    words = _WORD.findall(part)
    return [
        *_characters_and_words(text, part, words),
        *_lines(part),
        *_sentences(part, len(words)),
        _repeated_runs(words),
        *_echoes(part),
        *_cues(part, words),
    ]


def _characters_and_words(text: str, part: str, words: list[str]) -> list[float]:
    n, n_words = max(len(part), 1), max(len(words), 1)
    histogram = Counter(part)
    total = sum(histogram.values())
    capitals = digits = spaces = code_marks = beyond = 0
    for character, count in histogram.items():
        if character.isupper():
            capitals += count
        elif character.isdigit():
            digits += count
        elif character.isspace():
            spaces += count
        elif character in _CODE_PUNCTUATION:
            code_marks += count
        if character > "\x7f":
            beyond += count
    data = part.encode(errors="replace")
    lower = [word.lower() for word in words]
    return [
        math.log1p(len(text)),
        math.log1p(len(words) * len(text) / n),
        sum(map(len, words)) / n_words,
        sum(len(word) >= 8 for word in words) / n_words,
        sum(len(word) >= 20 for word in words) / n_words,
        len(set(lower[:200])) / max(len(lower[:200]), 1),
        sum(word in GRAMMAR_WORDS for word in lower) / n_words,
        capitals / n,
        sum(word[0].isupper() for word in words) / n_words,
        digits / n,
        spaces / n,
        code_marks / n,
        beyond / n,
        -sum(count / total * math.log2(count / total) for count in histogram.values()) if total else 0.0,
        len(zlib.compress(data, 1)) / max(len(data), 1),
        sum(not _VOWEL.search(word) for word in words) / n_words,
    ]


def _lines(part: str) -> list[float]:
    every = part.split("\n")
    lines = [line for line in every if line.strip()]
    n = max(len(lines), 1)
    stripped = [line.strip() for line in lines]
    lengths = [len(line) for line in lines]
    return [
        math.log1p(len(lines)),
        math.log1p(sum(lengths) / n),
        sum(length < 30 for length in lengths) / n,
        sum(length > 200 for length in lengths) / n,
        sum(line[-1] in ".!?:;\"')" for line in stripped) / n,
        sum(line[0] in "-*•|>#+·»" or line[:2].strip().isdigit() for line in stripped) / n,
        sum(line[0] in " \t" for line in lines) / n,
        1 - len(set(stripped)) / n,
        1 - len(lines) / len(every),
    ]


def _sentences(part: str, n_words: int) -> list[float]:
    pieces = [piece.strip() for piece in _SENTENCE_END.split(part)]
    pieces = [piece for piece in pieces if piece]
    n, n_words, stripped = max(len(pieces), 1), max(n_words, 1), part.strip()
    opened = sum(part.count(mark) for mark in "([{")
    closed = sum(part.count(mark) for mark in ")]}")
    return [
        math.log1p(len(pieces)),
        math.log1p(n_words / n),
        sum(piece[0].isupper() for piece in pieces) / n,
        part.count(",") / n_words,
        part.count("?") / n_words,
        part.count("!") / n_words,
        sum(part.count(mark) for mark in "\"“”'") / n_words,
        (opened + closed) / n_words,
        abs(opened - closed) / (opened + closed + 1),
        float(stripped[:1].isupper()),
        float(stripped[-1:] in tuple(".!?\"')")),
    ]


def _repeated_runs(words: list[str]) -> float:
    """Fraction of three-word runs that occur earlier in the text."""
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _echoes(part: str) -> list[float]:
    """Measure how much of the text after the first colon or equals sign repeats the text before it, and how much of the
    end of the text repeats the rest.

    In worked reasoning, each step copies from its starting point and the end repeats the last result. Damage breaks
    these copies.
    """
    line = part.strip()[:600]
    cut = min((place for place in (line.find(":"), line.find("=")) if place >= 0), default=-1)
    if cut < 0:
        return [0.0] * 7
    head, tail = _SYMBOL_RUN.findall(line[:cut]), _SYMBOL_RUN.findall(line[cut + 1 :])
    body, _, end = line[cut + 1 :].rpartition(".")
    last = re.split(r"[=<>\s]", body)[-1]
    before = [*head, *_SYMBOL_RUN.findall(body)]
    ended = _SYMBOL_RUN.findall(end)
    letters = [symbol for symbol in tail if symbol.isalpha()]
    ordered = sum(a < b for a, b in pairwise(letters))
    return [
        _fraction_seen(list(pairwise(tail)), set(pairwise(head))),
        _fraction_seen(
            list(zip(tail, tail[1:], tail[2:], strict=False)), set(zip(head, head[1:], head[2:], strict=False))
        ),
        _fraction_seen(ended, set(before)),
        float(bool(end) and end == last),
        _overlap("".join(ended), "".join(head)),
        _overlap("".join(tail), "".join(head)),
        ordered / max(len(letters) - 1, 1),
    ]


def _fraction_seen(items: list, known: set) -> float:
    return sum(item in known for item in items) / len(items) if items else 0.0


def _overlap(a: str, b: str) -> float:
    """Number of characters that the two strings share, with multiplicity, divided by the length of the longer
    string."""
    common = sum((Counter(a) & Counter(b)).values())
    return common / max(len(a), len(b), 1)


def _cues(part: str, words: list[str]) -> list[float]:
    known, hundreds = Counter(word.lower() for word in words), max(len(words), 20) / 100
    counts = [0] * len(_CUES)
    for word in known.keys() & _CUE_OF.keys():
        counts[_CUE_OF[word]] += known[word]
    counts += [len(mark.findall(part)) for mark in _MARKS.values()]
    return [math.log1p(count / hundreds) for count in counts]
