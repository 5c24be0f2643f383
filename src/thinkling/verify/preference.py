"""Preferences as numbers. Unlike a verdict, a preference only states that an answer is better or worse.

There are two sources of preferences: a rule that grades a single answer, and a pairwise model that compares an answer
with a reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import grader


@dataclass(frozen=True)
class Preference:
    """The preference of a pairwise model for an answer over a reference, measured in both orders."""

    first: float
    """Log-odds, in nats, of the verdict "the first is better" if the model sees the answer first."""
    second: float
    """Log-odds, in nats, of the verdict "the first is better" if the model sees the answer second; below 0 if the
    answer is preferred."""

    @property
    def score(self) -> float:
        """Mean log-odds of the answer over both orders, which cancels position bias. Swapping answer and reference
        exactly negates the score."""
        return (self.first - self.second) / 2

    @property
    def reward(self) -> float:
        """The score converted to a probability by the logistic function."""
        return 1 / (1 + math.exp(-self.score)) if self.score > -700 else 0.0

    @property
    def consistent(self) -> bool:
        """Whether the model prefers the same answer in both orders."""
        return (self.first > 0) == (self.second < 0)


LOWEST = Preference(-math.inf, math.inf)
"""Preference for an answer that was cut off, is empty or cannot be parsed. Its reward is 0."""


def is_graded(problem: Problem) -> bool:
    """Whether the problem's verifier also grades answers."""
    return grader(problem.verifier) is not None


def grade(problem: Problem, reading: Reading, truncated: bool) -> float:
    """Return the verifier's grade of the reading, from 0 to 1; 0 if truncated. Raises ValueError if the verifier does
    not grade."""
    of = grader(problem.verifier)
    if of is None:
        raise ValueError(f"verifier {problem.verifier!r} does not grade")
    return 0.0 if truncated else of(problem, reading)


def win(mine: float, other: float) -> float:
    """Return 1 if the first grade is higher, 0.5 if the grades are equal, and 0 otherwise."""
    return 0.5 * ((mine > other) + (mine >= other))
