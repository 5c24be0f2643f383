"""Right is a number equal to the value of the problem's expression."""

from __future__ import annotations

import re
from fractions import Fraction

from thinkling.generate.calculator import MAX_LENGTH, CalculatorError, evaluate
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict, read_answer

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+|/[0-9]*[1-9][0-9]*)?")
"""An answer is a number: an expression left for the verifier to work out is no answer."""


def verify(problem: Problem, completion: str) -> Verdict:
    """Compares exactly with the value of `problem.tool_call`; unverifiable where that cannot be evaluated."""
    try:
        reference = Fraction(evaluate(problem.tool_call or ""))
    except CalculatorError as error:
        return Verdict(Outcome.UNVERIFIABLE, "calculator", f"reference: {error}")
    answer = read_answer(completion)
    if answer is None or len(answer) > MAX_LENGTH or not _NUMBER.fullmatch(answer):
        return Verdict(Outcome.WRONG, "calculator", "no readable answer")
    right = Fraction(answer) == reference
    return Verdict(Outcome.RIGHT if right else Outcome.WRONG, "calculator", answer)
