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


stdin_stdout = Undecided("stdin-stdout", "programs that read standard input are not run yet")
