"""Chinese and Japanese texts with planted near-duplicates and leaked problems, generated from seeds.

A text is a sequence of sentences, and a sentence is a form filled with words. Texts share forms and words, so texts on
the same topic resemble each other. A near-duplicate differs from its original in about one character in 75, in one
missing sentence out of ten or more, or in two neighbouring sentences that are swapped; some also differ in the width of
punctuation and in line breaks. A leak is a document that quotes a problem: whole, with one character changed, or a
contiguous 60 to 95% of it.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Language:
    """The words and forms of a language. `{letter}` in a form stands for a word from that list."""

    name: str
    words: dict[str, list[str]]
    forms: list[str]
    problems: list[str]
    """Problems in three parts separated by `|`; a whole problem has all three."""
    instruction: str
    """The instruction at the end of every problem."""


@dataclass(frozen=True)
class Leak:
    problem: int
    document: str
    kind: str


_ALONE = re.compile(r"(?<!\d)\d(?!\d)")
WORDS = Path(__file__).with_name("cjk_words.json")
LANGUAGES = [Language(**entry) for entry in json.loads(WORDS.read_text(encoding="utf-8"))]


def filled(form: str, language: Language, rng: random.Random) -> str:
    """A form filled with words, drawn independently for every place."""
    parts = form.split("{")
    return parts[0] + "".join(rng.choice(language.words[part[0]]) + part[2:] for part in parts[1:])


def forms_of_text(language: Language, rng: random.Random) -> list[str]:
    """The forms of a text of 100 to 800 characters."""
    return rng.sample(language.forms, rng.randint(5, len(language.forms)))


def sentences(forms: list[str], language: Language, rng: random.Random) -> list[str]:
    return [filled(form, language, rng) for form in forms]


def near_duplicate(original: list[str], rng: random.Random) -> str:
    """The text with one small change, and half the time with different widths or line breaks."""
    changed = list(original)
    kinds = ["characters"] + ["missing", "order"] * (len(original) >= 10)
    kind = rng.choice(kinds)
    at = rng.randrange(len(changed) - 1)
    if kind == "missing":
        del changed[at]
    elif kind == "order":
        changed[at], changed[at + 1] = changed[at + 1], changed[at]
    text = "".join(changed)
    if kind == "characters":
        text = with_changes(text, max(1, len(text) // 75), rng)
    if rng.random() < 0.25:
        text = unicodedata.normalize("NFKC", text)
    if rng.random() < 0.25:
        text = text.replace("。", "。\n")
    return text


def with_changes(text: str, n: int, rng: random.Random) -> str:
    """The text with n characters replaced by others from the same text."""
    characters = list(text)
    letters = [i for i, character in enumerate(characters) if character.isalpha()]
    for i in rng.sample(letters, n):
        characters[i] = rng.choice([text[j] for j in letters if text[j] != text[i]])
    return "".join(characters)


def problem(language: Language, rng: random.Random) -> str:
    return filled(rng.choice(language.problems).replace("|", ""), language, rng)


def leak(number: int, question: str, language: Language, rng: random.Random) -> Leak:
    """A document that quotes a problem, or a large contiguous part of it."""
    kind = rng.choice(["whole", "changed", "part", "width", "spaced"])
    quoted = question
    if kind == "changed":
        quoted = with_changes(question, 1, rng)
    elif kind == "part":
        length = int(len(question) * rng.uniform(0.6, 0.95))
        start = rng.randrange(len(question) - length + 1)
        quoted = question[start : start + length]
    elif kind == "width":
        wide = {ord(digit): chr(ord(digit) + 0xFEE0) for digit in "0123456789"}
        quoted = question.translate(wide).replace("，", ",").replace("、", ", ")
    elif kind == "spaced":
        quoted = _ALONE.sub(r" \g<0> ", question)
    around = sentences(forms_of_text(language, rng), language, rng)
    at = rng.randrange(len(around) + 1)
    return Leak(number, "".join([*around[:at], quoted, *around[at:]]), kind)


@dataclass(frozen=True)
class Texts:
    """All texts of one language."""

    originals: list[str]
    copies: list[str]
    """One near-duplicate per original, in the same order."""
    others: list[str]
    """Texts that are not near-duplicates: new ones, and ones with an original's forms but other words."""
    problems: list[str]
    leaks: list[Leak]
    clean: list[str]
    """Documents without any of `problems`: texts, texts with the instruction, and other problems with the same
    forms."""


def texts(language: Language, planted: int = 500, others: int = 5000) -> Texts:
    rng = random.Random(f"cjk {language.name}")
    forms = [forms_of_text(language, rng) for _ in range(planted)]
    originals = [sentences(one, language, rng) for one in forms]
    copies = [near_duplicate(one, rng) for one in originals]
    fresh = [
        sentences(forms[i % planted] if i % 2 else forms_of_text(language, rng), language, rng) for i in range(others)
    ]
    problems = [problem(language, rng) for _ in range(planted)]
    leaks = [leak(i, one, language, rng) for i, one in enumerate(problems)]
    clean = []
    for i in range(others):
        around = sentences(forms_of_text(language, rng), language, rng)
        if i % 2:
            around.insert(rng.randrange(len(around) + 1), problem(language, rng) + language.instruction)
        clean.append("".join(around))
    asked = [one + language.instruction for one in problems]
    return Texts(["".join(one) for one in originals], copies, ["".join(one) for one in fresh], asked, leaks, clean)
