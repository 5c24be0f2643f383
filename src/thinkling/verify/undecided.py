"""Verifiers of problems that can be read but not judged yet: every verdict is unverifiable, and never a reward."""

from __future__ import annotations

from dataclasses import dataclass

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Undecided:
    """Judges nothing, and says why."""

    name: str
    reason: str

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        return Verdict(Outcome.UNVERIFIABLE, self.name, self.reason)


check_function = Undecided(
    "check-function", "tests inside a function cannot be turned into values before the program is there"
)
