"""The family `write`: a short line under conditions, which many answers meet and others meet in part.

`write KDA` asks for a line with the letters K, D and A, in any order, nothing else, and `!` at its end: `KDA!` and `ADK!`
are such lines. How good a line is, a stated rule says: `grade`, the mean of three items between 0 and 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_uppercase

from thinkling.tasks.family import Draft, Family, Knob, Knobs
from thinkling.tasks.problem import Problem

END = "!"
KNOBS = {"min_letters": Knob(3, 1, 9), "max_letters": Knob(5, 1, 9)}


@dataclass(frozen=True)
class Grade:
    """What the rule says of a line; every item lies in 0–1."""

    asked: float
    """Share of the asked letters that stand in the line."""
    only: float
    """Share of the line's letters that are asked ones, each counted once."""
    form: float
    """1 where the line is letters and `!`, else 0."""

    @property
    def mean(self) -> float:
        return (self.asked + self.only + self.form) / 3


NOTHING = Grade(0.0, 0.0, 0.0)


def grade(question: str, line: str) -> Grade:
    """Grades a line for a question of this family. Other characters than capitals count for `form` alone."""
    asked = question.rpartition(" ")[2]
    letters = [c for c in line if c in ascii_uppercase]
    if not letters:
        return NOTHING
    found = sum(c in letters for c in asked)
    return Grade(
        asked=found / len(asked),
        only=found / len(letters),
        form=float(line == "".join(letters) + END),
    )


def damage(problem: Problem, rng: random.Random, rate: float) -> tuple[str, str]:
    """The line with each of four faults at that rate: a letter left out, one or two letters too many, one letter twice,
    no mark at the end. There is no working."""
    line = list(problem.answer.removesuffix(END))
    if len(line) > 1 and rng.random() < rate:
        del line[rng.randrange(len(line))]
    if rng.random() < rate:
        for _ in range(rng.randint(1, 2)):
            line.insert(rng.randint(0, len(line)), rng.choice(ascii_uppercase))
    if rng.random() < rate:
        at = rng.randrange(len(line))
        line.insert(at, line[at])
    return problem.trace, "".join(line) + ("" if rng.random() < rate else END)


def draw(rng: random.Random, knobs: Knobs) -> Draft:
    """A question with one of the lines that have grade 1."""
    letters = rng.sample(ascii_uppercase, rng.randint(knobs["min_letters"], knobs["max_letters"]))
    line = "".join(letters)
    return Draft(line, "", line + END, {"letters": len(letters)})


WRITE = Family("write", KNOBS, draw, verifier="writing", damage=damage)
