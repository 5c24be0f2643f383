"""Verifiers of puzzles, found by entry points: `calculator` and `writing`."""

from __future__ import annotations

import re
from fractions import Fraction

from thinkling.data.reading import Reading
from thinkling.generate.calculator import MAX_LENGTH, CalculatorError, evaluate
from thinkling.puzzles import writing as lines
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+|/[0-9]*[1-9][0-9]*)?")
"""An answer is a number: an expression left for the verifier to work out is no answer."""


def calculator(problem: Problem, reading: Reading) -> Verdict:
    """Right is a number equal to the value of the expression in `problem.call`; unverifiable where that has none."""
    try:
        reference = Fraction(evaluate(str((problem.call or {}).get("expression") or "")))
    except CalculatorError as error:
        return Verdict(Outcome.UNVERIFIABLE, "calculator", f"reference: {error}")
    answer = reading.line
    if answer is None or len(answer) > MAX_LENGTH or not _NUMBER.fullmatch(answer):
        return Verdict(Outcome.WRONG, "calculator", "no readable answer")
    right = Fraction(answer) == reference
    return Verdict(Outcome.RIGHT if right else Outcome.WRONG, "calculator", answer)


class WritingVerifier:
    """A line by the stated rule of `puzzles/writing.py`: a grade, and right where the grade is 1."""

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        """The detail lists the items of the grade."""
        found = self._grade(problem, reading)
        items = ", ".join(f"{name} {value:.2f}" for name, value in vars(found).items())
        return Verdict(Outcome.RIGHT if found.mean == 1 else Outcome.WRONG, "writing", items)

    def grade(self, problem: Problem, reading: Reading) -> float:
        """The rule's grade, in 0–1; 0 where no answer can be read."""
        return self._grade(problem, reading).mean

    def _grade(self, problem: Problem, reading: Reading) -> lines.Grade:
        return lines.NOTHING if reading.line is None else lines.grade(problem.question, reading.line)


writing = WritingVerifier()
