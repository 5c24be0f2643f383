"""The family `write`: a short line under conditions, which many answers meet and others meet in part.

`write KDA5` asks for a line of 5 different letters in alphabetical order, K, D and A among them, with `!` at its end:
`ADFKP!` is one such line. How good a line is, a stated rule says: `grade`, the mean of four items between 0 and 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase

from thinkling.tasks.family import Draft, Family, Knob, Knobs
from thinkling.tasks.problem import Problem

END = "!"
KNOBS = {"min_letters": Knob(2, 1, 6), "max_letters": Knob(4, 1, 6), "max_free": Knob(3, 0, 3)}


@dataclass(frozen=True)
class Grade:
    """What the rule says of a line; every item lies in 0–1."""

    asked: float
    """Share of the asked letters that stand in the line exactly once."""
    order: float
    """Share of neighbouring letters that ascend; 0 where there are none. Equal neighbours do not ascend."""
    length: float
    """1 minus the letters too many or too few over the number wanted, at least 0."""
    form: float
    """1 where the line is letters and `!`, else 0."""

    @property
    def mean(self) -> float:
        return (self.asked + self.order + self.length + self.form) / 4


NOTHING = Grade(0.0, 0.0, 0.0, 0.0)


def grade(question: str, line: str) -> Grade:
    """Grades a line for a question of this family. Other characters than capitals count for `form` alone."""
    asked, wanted = _read(question)
    letters = [c for c in line if c in ascii_uppercase]
    if not letters:
        return NOTHING
    steps = [a < b for a, b in pairwise(letters)]
    return Grade(
        asked=sum(letters.count(c) == 1 for c in asked) / len(asked),
        order=sum(steps) / len(steps) if steps else 0.0,
        length=max(0.0, 1 - abs(len(letters) - wanted) / wanted),
        form=float(line == "".join(letters) + END),
    )


def damage(problem: Problem, rng: random.Random, rate: float) -> tuple[str, str]:
    """The working as it is, and the line with each of five faults at that rate: an asked letter left out, one letter
    too many, one twice, two neighbours exchanged, no mark at the end."""
    asked, _ = _read(problem.question)
    line = [c for c in problem.answer if c in ascii_uppercase]
    if rng.random() < rate:
        line.remove(rng.choice([c for c in asked if c in line]))
    if rng.random() < rate:
        line.insert(rng.randint(0, len(line)), rng.choice(ascii_uppercase))
    if line and rng.random() < rate:
        line.insert(rng.randint(0, len(line)), rng.choice(line))
    if len(line) > 1 and rng.random() < rate:
        at = rng.randrange(len(line) - 1)
        line[at : at + 2] = line[at + 1], line[at]
    return problem.trace, "".join(line) + ("" if rng.random() < rate else END)


def draw(rng: random.Random, knobs: Knobs) -> Draft:
    """A question with one of the lines that have grade 1. The working is the asked letters in order: `A<D<K`."""
    n = rng.randint(knobs["min_letters"], knobs["max_letters"])
    wanted = max(2, n + rng.randint(0, knobs["max_free"]))
    line = rng.sample(ascii_uppercase, wanted)
    asked = line[:n]
    return Draft("".join(asked) + str(wanted), "<".join(sorted(asked)), "".join(sorted(line)) + END, {"letters": n})


def _read(question: str) -> tuple[str, int]:
    symbols = question.rpartition(" ")[2]
    return symbols[:-1], int(symbols[-1])


WRITE = Family("write", KNOBS, draw, verifier="writing", damage=damage)
