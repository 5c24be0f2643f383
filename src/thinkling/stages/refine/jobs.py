"""Jobs and their progress. Roles are prompted from an `Asked`, which does not contain the reference answer, so that the
reference answer cannot leak into a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinkling.data.artifact import hash_of
from thinkling.stages.refine.style import Chain, Solution
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class Asked:
    """The part of a problem that the roles may see."""

    key: str
    """Key of the job: hash of problem, job seed and checklist version."""
    problem_id: str
    family: str
    question: str
    system: str = ""
    """System message for drafts. If empty, there is no system message."""

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
    """For each evaluator, whether each item is met. None if the critique could not be parsed."""

    @property
    def met(self) -> list[bool] | None:
        """Whether each item is met according to all evaluators whose critique could be parsed. None if no critique
        could be parsed."""
        readable = [verdict for verdict in self.verdicts if verdict is not None]
        return [all(marks) for marks in zip(*readable, strict=True)] if readable else None

    @property
    def harshest(self) -> str:
        """The critique with the fewest items met, among those that could be parsed. In case of a tie, the first one."""
        readable = [(sum(v), i) for i, v in enumerate(self.verdicts) if v is not None]
        return self.critiques[min(readable)[1]]


@dataclass
class Job:
    """A problem whose solution is being refined."""

    asked: Asked
    drafter: int
    noisy: bool = False
    """Whether the style added noise to the draft."""
    items: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    end: str | None = None
    """None while the job is open. Afterwards `met`, `no_gain`, `budget` or `<role>_unreadable`."""
    chain: Chain | None = None
    rejected: str | None = None
    """Reason why the job yields no solution. None if it yields one."""

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    @property
    def best(self) -> Round:
        """The round with the most items met. In case of a tie, the first one."""
        return max(self.rounds, key=lambda r: sum(r.met or []))

    def judge(self, rounds: int, patience: int) -> None:
        """Ends the job if, after its last solution was judged, all items are met, no critique could be parsed, the
        latest revisions brought no gain, or the budget of revisions is used up."""
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
