"""Right is the reference itself, white space aside."""

from __future__ import annotations

from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict, read_answer


def verify(problem: Problem, completion: str) -> Verdict:
    """Compares the completion's answer with `problem.answer`, both with white space made single spaces."""
    answer = read_answer(completion)
    if answer is None:
        return Verdict(Outcome.WRONG, "exact", "no readable answer")
    right = answer == " ".join(problem.answer.split())
    return Verdict(Outcome.RIGHT if right else Outcome.WRONG, "exact", answer)
