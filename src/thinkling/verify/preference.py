"""Preference as a number. It is not a verdict: nothing here is right or wrong, only better or worse.

Two sources: a rule grades one answer by itself; a pairwise model compares it with a reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import grader


@dataclass(frozen=True)
class Preference:
    """How strongly a pairwise model prefers the answer over a reference, asked in both orders."""

    first: float
    """Log-odds of the verdict "the first is better", in nats, with the answer first."""
    second: float
    """The same with the answer second: below 0 if the answer is preferred."""

    @property
    def score(self) -> float:
        """Mean log-odds for the answer over both orders, which cancels position bias. Exactly negated if answer and
        reference are swapped."""
        return (self.first - self.second) / 2

    @property
    def reward(self) -> float:
        """The score as a probability, by the logistic function."""
        return 1 / (1 + math.exp(-self.score)) if self.score > -700 else 0.0

    @property
    def consistent(self) -> bool:
        """Whether both orders prefer the same answer."""
        return (self.first > 0) == (self.second < 0)


LOWEST = Preference(-math.inf, math.inf)
"""For an answer that was cut off, is empty or cannot be read. Its reward is 0."""


def is_graded(problem: Problem) -> bool:
    """Whether the problem's verifier also grades answers."""
    return grader(problem.verifier) is not None


def grade(problem: Problem, reading: Reading, truncated: bool) -> float:
    """The verifier's grade of the reading, in 0–1; 0 if truncated. Raises ValueError if the verifier does not grade."""
    of = grader(problem.verifier)
    if of is None:
        raise ValueError(f"verifier {problem.verifier!r} does not grade")
    return 0.0 if truncated else of(problem, reading)


def win(mine: float, other: float) -> float:
    """1 if the first grade is higher, 0.5 if both are equal, else 0."""
    return 0.5 * ((mine > other) + (mine >= other))
