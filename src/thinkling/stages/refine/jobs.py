"""Jobs and where they stand. What is asked of the roles is an `Asked`: it has no answer, so none can reach a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinkling.data.artifact import hash_of
from thinkling.stages.refine.style import Chain, Solution
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class Asked:
    """What the roles may know of a problem."""

    key: str
    """Of the job: hash of problem, job seed and checklist version."""
    problem_id: str
    family: str
    question: str
    system: str = ""
    """The system message that drafts are asked under; none if empty."""

    @staticmethod
    def of(problem: Problem, seed: int, checklist_version: int) -> Asked:
        key = hash_of([problem.id, seed, checklist_version])[:16]
        return Asked(key, problem.id, problem.family, problem.question, problem.system)


@dataclass
class Round:
    """A solution and what the evaluators made of it."""

    solution: Solution
    critiques: list[str] = field(default_factory=list)
    """What each evaluator wrote, in their order."""
    verdicts: list[list[bool] | None] = field(default_factory=list)
    """Per evaluator and item; None where the critique was not in form."""

    @property
    def met(self) -> list[bool] | None:
        """Items that every evaluator with a readable critique found met; None where there was none."""
        readable = [verdict for verdict in self.verdicts if verdict is not None]
        return [all(marks) for marks in zip(*readable, strict=True)] if readable else None

    @property
    def harshest(self) -> str:
        """The critique that found fewest items met; the first of equals."""
        readable = [(sum(v), i) for i, v in enumerate(self.verdicts) if v is not None]
        return self.critiques[min(readable)[1]]


@dataclass
class Job:
    """One problem on its way."""

    asked: Asked
    drafter: int
    noisy: bool = False
    """Whether the style added noise to its draft."""
    items: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    end: str | None = None
    """None while open; `met`, `no_gain`, `budget`, or `<role>_unreadable`."""
    chain: Chain | None = None
    rejected: str | None = None
    """Why nothing is kept of it; None where something is."""

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    @property
    def best(self) -> Round:
        """The round that met most items; the first of equals."""
        return max(self.rounds, key=lambda r: sum(r.met or []))

    def judge(self, rounds: int, patience: int) -> None:
        """The stop rule, after the last solution was judged: all items met, no reading of it, no gain, or budget."""
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
