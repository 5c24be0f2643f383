"""Verifier that compares an answer with the reference exactly, ignoring differences in whitespace."""

from __future__ import annotations

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict


def verify(problem: Problem, reading: Reading) -> Verdict:
    """Compare the answer with `problem.answer`, collapsing whitespace in both to single spaces."""
    answer = reading.line
    if answer is None:
        return Verdict(Outcome.WRONG, "exact", "no readable answer")
    right = answer == " ".join(problem.answer.split())
    return Verdict(Outcome.RIGHT if right else Outcome.WRONG, "exact", answer)
