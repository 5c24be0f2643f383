"""The family `judge`: which of two answers to a question is better, in one token. Trains a pairwise model.

The question and the two answers are on separate lines, and answers contain no line break, so none can pose as another:
`judge write KDA` / `DKA!` / `KDD` → `1`. The verdicts of this family follow the rule of `puzzles/writing.py`.
"""

from __future__ import annotations

import random
from string import ascii_uppercase, digits

from thinkling.generate.pairwise_forms import PairwiseForm
from thinkling.puzzles import writing
from thinkling.puzzles.family import Draft, Family, Knobs
from thinkling.tasks.problem import Problem, split

VERDICTS = ("1", "2")
"""The first answer is better, or the second: one token each."""
MOST_EDITS = 4
"""Maximum edits to a good line that yield an answer of a pair; the minimum is none."""


def symbols(question: str, first: str, second: str) -> str:
    """The symbols after the family word. Raises ValueError if an answer spans several lines."""
    if any(len(text.splitlines()) > 1 for text in (question, first, second)):
        raise ValueError("an answer to be compared must be a single line")
    return f"{question}\n{first}\n{second}"


def question(asked: str, first: str, second: str) -> str:
    """The question for a pairwise model."""
    return f"{JUDGE.name} {symbols(asked, first, second)}"


def draw(rng: random.Random, knobs: Knobs) -> Draft:
    """Two lines with different grades for a training question of the family `write`."""
    while True:
        asked = writing.WRITE.sample_checked(rng, knobs)
        if split(asked) != "train":
            continue
        lines = [edited(asked.answer, rng, rng.randint(0, MOST_EDITS)) for _ in VERDICTS]
        first, second = (writing.grade(asked.question, line).mean for line in lines)
        if first != second:
            verdict = VERDICTS[0] if first > second else VERDICTS[1]
            return Draft(symbols(asked.question, *lines), "", verdict, {})


def edited(line: str, rng: random.Random, edits: int) -> str:
    """Applies `edits` edits of any kind to the line at random places. They cover what a model in training may write,
    not only what it was shown: a pairwise model that has seen less is soon exploited."""
    symbols = list(line)
    for _ in range(edits):
        at = rng.randrange(len(symbols) + 1)
        kind = rng.choice(("replace", "leave out", "add", "repeat", "fill", "mark"))
        if kind == "add":
            symbols.insert(at, rng.choice(ascii_uppercase))
        elif kind == "fill":
            symbols.insert(at, rng.choice(digits))
        elif kind == "mark":
            marked = symbols[-1:] == [writing.END] and rng.random() < 0.7
            symbols = symbols[:-1] if marked else [*symbols, writing.END]
        elif at < len(symbols):
            if kind == "replace":
                symbols[at] = rng.choice(ascii_uppercase)
            elif kind == "leave out":
                del symbols[at]
            else:
                symbols.insert(at, symbols[at])
    return "".join(symbols)


def add_noise(problem: Problem, rng: random.Random, rate: float) -> tuple[str, str]:
    """The opposite verdict: label noise."""
    return "", VERDICTS[1 - VERDICTS.index(problem.answer)]


JUDGE = Family("judge", writing.KNOBS, draw, noise=add_noise)
FORM = PairwiseForm(question, VERDICTS, one_line=True)
"""The prompt format in rl for a model that learned this family: `preference_form: puzzles`."""
