"""A line by the stated rule of `puzzles/writing.py`: a grade, and right where nothing is left to better."""

from __future__ import annotations

from thinkling.puzzles import writing
from thinkling.puzzles.writing import Grade
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict, read_answer


def grade(question: str, completion: str) -> Grade:
    """The grade of a completion in chat form; all items 0 where no answer can be read."""
    answer = read_answer(completion)
    return writing.NOTHING if answer is None else writing.grade(question, answer)


def verify(problem: Problem, completion: str) -> Verdict:
    """Right is grade 1; the detail tells the items."""
    found = grade(problem.question, completion)
    items = ", ".join(f"{name} {value:.2f}" for name, value in vars(found).items())
    return Verdict(Outcome.RIGHT if found.mean == 1 else Outcome.WRONG, "writing", items)
