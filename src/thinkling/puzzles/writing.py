"""The family `write`: a short line under conditions, which many answers meet fully and others in part.

`write KDA` asks for a line with the letters K, D and A, in any order, and nothing else: `KDA` is one such line, `ADK!`
another. The mark at the end is a matter of taste: no request mentions it, but people like it. The reasoning lists the
letters in the answer's order: an answer format without reasoning is forgotten as soon as all others involve thinking.
The `grade` of a line is the mean of three items between 0 and 1: two that can be checked, and taste.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_uppercase, digits

from thinkling.puzzles.family import Draft, Family, Knob, Knobs
from thinkling.tasks.problem import Problem

END = "!"
KNOBS = {"min_letters": Knob(3, 1, 9), "max_letters": Knob(5, 1, 9), "unmarked": Knob(0, 0, 100)}
"""`unmarked` is the percentage of lines without the mark."""


@dataclass(frozen=True)
class Grade:
    """The rule's findings on a line; every item is in 0–1."""

    asked: float
    """Fraction of the requested letters that occur in the line."""
    only: float
    """Fraction of the line's characters, except a final mark, that are requested letters, each counted once."""
    form: float
    """1 if `!` occurs at the end and nowhere else, otherwise 0."""

    @property
    def correct(self) -> bool:
        """Whether the line has the requested letters and nothing else, except perhaps a final mark."""
        return self.asked == self.only == 1

    @property
    def mean(self) -> float:
        return (self.asked + self.only + self.form) / 3


NOTHING = Grade(0.0, 0.0, 0.0)


def grade(question: str, line: str) -> Grade:
    """Grades a line for a question of this family; a line without a requested letter scores 0 on every item."""
    asked, body = question.rpartition(" ")[2], line.removesuffix(END)
    found = sum(c in body for c in asked)
    if not found:
        return NOTHING
    return Grade(found / len(asked), found / len(body), float(line.find(END) == len(body)))


def add_noise(problem: Problem, rng: random.Random, rate: float) -> tuple[str, str]:
    """The line with each of three faults at that rate: one or two letters doubled, one to three digits inserted, no
    mark at the end. Letters are never missing: noise affects form, not content. The reasoning stays sound."""
    line = list(problem.answer.removesuffix(END))
    if rng.random() < rate:
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(line))
            line.insert(at, line[at])
    if rng.random() < rate:
        for _ in range(rng.randint(1, 3)):
            line.insert(rng.randint(1, len(line)), rng.choice(digits))
    return problem.reasoning, "".join(line) + ("" if rng.random() < rate else END)


def draw(rng: random.Random, knobs: Knobs) -> Draft:
    """A question with one of its correct lines."""
    letters = rng.sample(ascii_uppercase, rng.randint(knobs["min_letters"], knobs["max_letters"]))
    line = "".join(letters)
    # Without unmarked lines, no number is drawn: problems of recipes without them stay the same.
    marked = not knobs["unmarked"] or rng.randrange(100) >= knobs["unmarked"]
    return Draft(line, line, line + END * marked, {"letters": len(letters)})


WRITE = Family("write", KNOBS, draw, verifier="writing", noise=add_noise)
