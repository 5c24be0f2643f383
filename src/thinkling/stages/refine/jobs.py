"""Jobs and their progress. Roles are prompted from an `Asked`, which has no reference answer, so none can leak into a
prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinkling.data.artifact import hash_of
from thinkling.stages.refine.style import Chain, Solution
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class Asked:
    """What the roles may know about a problem."""

    key: str
    """Key of the job: hash of problem, job seed and checklist version."""
    problem_id: str
    family: str
    question: str
    system: str = ""
    """System message for drafts; none if empty."""

    @staticmethod
    def of(problem: Problem, seed: int, checklist_version: int) -> Asked:
        key = hash_of([problem.id, seed, checklist_version])[:16]
        return Asked(key, problem.id, problem.family, problem.question, problem.system)


@dataclass
class Round:
    """A solution and the evaluators' findings."""

    solution: Solution
    critiques: list[str] = field(default_factory=list)
    """Text of each evaluator's critique, in order."""
    verdicts: list[list[bool] | None] = field(default_factory=list)
    """Per evaluator and item; None if the critique could not be parsed."""

    @property
    def met(self) -> list[bool] | None:
        """Items that all evaluators with a readable critique consider met; None if there is no readable critique."""
        readable = [verdict for verdict in self.verdicts if verdict is not None]
        return [all(marks) for marks in zip(*readable, strict=True)] if readable else None

    @property
    def harshest(self) -> str:
        """The critique with the fewest items met; the first in case of ties."""
        readable = [(sum(v), i) for i, v in enumerate(self.verdicts) if v is not None]
        return self.critiques[min(readable)[1]]


@dataclass
class Job:
    """A problem being refined."""

    asked: Asked
    drafter: int
    noisy: bool = False
    """Whether the style added noise to the draft."""
    items: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    end: str | None = None
    """None while open; then `met`, `no_gain`, `budget`, or `<role>_unreadable`."""
    chain: Chain | None = None
    rejected: str | None = None
    """Why the job yields nothing; None if it yields a solution."""

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    @property
    def best(self) -> Round:
        """The round with the most items met; the first in case of ties."""
        return max(self.rounds, key=lambda r: sum(r.met or []))

    def judge(self, rounds: int, patience: int) -> None:
        """Applies the stop rule once the last solution is judged: all items met, unreadable critiques, no gain, or
        budget."""
        scores = [sum(r.met or []) for r in self.rounds]
        met = self.last.met
        if met is None:
            self.end = "critique_unreadable"
        elif all(met):
            self.end = "met"
        elif len(scores) - 1 - scores.index(max(scores)) >= patience:
            self.end = "no_gain"
        elif len(self.rounds) - 1 >= rounds:
            self.end = "budget"
