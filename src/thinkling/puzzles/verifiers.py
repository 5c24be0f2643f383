"""Verifiers of puzzles, registered as entry points: `calculator` and `writing`."""

from __future__ import annotations

import re
from fractions import Fraction

from thinkling.data.reading import Reading
from thinkling.generate.calculator import MAX_LENGTH, CalculatorError, evaluate
from thinkling.puzzles import writing as lines
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+|/[0-9]*[1-9][0-9]*)?")
"""Answers must be numbers; an expression that the verifier would have to evaluate is not accepted."""


def calculator(problem: Problem, reading: Reading) -> Verdict:
    """Right if the answer is a number equal to the value of the expression in `problem.call`; unverifiable if that has
    no value."""
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
    """Judges a line by the rule of `puzzles/writing.py`: right if its letters are the requested ones, and a grade that
    includes taste."""

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        """The detail lists the items of the grade."""
        found = self._grade(problem, reading)
        items = ", ".join(f"{name} {value:.2f}" for name, value in vars(found).items())
        return Verdict(Outcome.RIGHT if found.correct else Outcome.WRONG, "writing", items)

    def grade(self, problem: Problem, reading: Reading) -> float:
        """The rule's grade, in 0–1; 0 if no answer can be read."""
        return self._grade(problem, reading).mean

    def _grade(self, problem: Problem, reading: Reading) -> lines.Grade:
        return lines.NOTHING if reading.line is None else lines.grade(problem.question, reading.line)


writing = WritingVerifier()
