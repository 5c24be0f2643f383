"""Preference as a number. It is no verdict: nothing here is right or wrong, only better or worse.

Two sources: a stated rule grades one answer by itself; a pairwise model holds it against a reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import grader


@dataclass(frozen=True)
class Preference:
    """How much better than a reference a pairwise model finds an answer, asked in both orders."""

    first: float
    """Log-odds of the verdict "the first is better", in nats, the answer standing first."""
    second: float
    """The same, the answer standing second: below 0 where the answer is preferred."""

    @property
    def score(self) -> float:
        """Mean log-odds for the answer over both orders: what the model thinks of places cancels. Exactly the negative
        when answer and reference change places."""
        return (self.first - self.second) / 2

    @property
    def reward(self) -> float:
        """The score as a probability: the logistic function of it."""
        return 1 / (1 + math.exp(-self.score)) if self.score > -700 else 0.0

    @property
    def consistent(self) -> bool:
        """Whether both orders prefer the same answer."""
        return (self.first > 0) == (self.second < 0)


LOWEST = Preference(-math.inf, math.inf)
"""An answer that was cut off, is empty or cannot be read. Its reward is 0."""


def is_graded(problem: Problem) -> bool:
    """Whether the problem's verifier also grades answers."""
    return grader(problem.verifier) is not None


def grade(problem: Problem, reading: Reading, truncated: bool) -> float:
    """The verifier's grade of what was read, in 0–1; 0 for a completion that was cut off. ValueError: none."""
    of = grader(problem.verifier)
    if of is None:
        raise ValueError(f"verifier {problem.verifier!r} does not grade")
    return 0.0 if truncated else of(problem, reading)


def win(mine: float, other: float) -> float:
    """1 where the first grade is higher, 0.5 where both are equal, else 0."""
    return 0.5 * ((mine > other) + (mine >= other))
