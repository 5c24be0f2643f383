"""Rewards of groups. A verdict is not a reward: only right and wrong become numbers; a preference is one already.

A further kind of reward is a function of this type, named in `RewardedProblemsConfig.reward` and returned by
`reward_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thinkling.data.reading import Reading
from thinkling.generate.pairwise import Comparison, PairwiseModel
from thinkling.generate.rollouts import Rollout
from thinkling.stages.rl.config import RewardedProblemsConfig
from thinkling.tasks.problem import Problem
from thinkling.verify.preference import Preference, grade, is_graded, win
from thinkling.verify.verdict import Outcome

Group = tuple[Problem, Sequence[Rollout]]
"""A problem and its samples."""


@dataclass(frozen=True)
class Judged:
    """What a reward says of groups."""

    rewards: list[list[float | None]]
    """One a sample; None for one that leaves its group."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    """What else is worth watching, any number of values each: metrics.jsonl tells their means."""


Reward = Callable[[Sequence[Group]], Judged]
"""Takes many groups at once, so that a judge that is a model can batch them; a group's rewards must not depend on the
others."""


def verdict_rewards(groups: Sequence[Group]) -> Judged:
    """Right 1, wrong (also cut off) 0; unverifiable, timeout and error leave the group."""
    values: dict[str, float] = {Outcome.RIGHT.value: 1.0, Outcome.WRONG.value: 0.0}
    return Judged([[values.get(rollout.outcome) for rollout in rollouts] for _, rollouts in groups])


class PreferenceRewards:
    """How much likelier than not a pairwise model prefers a sample to the problem's reference, in 0–1.

    One reference a problem makes one comparison a sample. `references`: problem id → answer. Where a rule grades the
    problem, the figures tell it beside the judge: a reward that rises alone is a judge being deceived.
    """

    def __init__(self, judge: PairwiseModel, references: Mapping[str, str]) -> None:
        self.judge, self.references = judge, references

    def __call__(self, groups: Sequence[Group]) -> Judged:
        asked = [(rollout, self.references[problem.id]) for problem, rollouts in groups for rollout in rollouts]
        found = iter(prefer(self.judge, asked))
        preferences = [[next(found) for _ in rollouts] for _, rollouts in groups]
        flat = [p for group in preferences for p in group]
        figures = {"judge_consistent": [float(p.consistent) for p in flat]}
        graded = [(problem, r) for problem, rollouts in groups if is_graded(problem) for r in rollouts]
        if graded:
            grades = [grade(problem, r.reading, r.truncated) for problem, r in graded]
            references = [grade(problem, Reading.of(self.references[problem.id]), False) for problem, _ in graded]
            figures["rule_grade"] = grades
            figures["rule_win_rate"] = [win(a, b) for a, b in zip(grades, references, strict=True)]
        return Judged([[p.reward for p in group] for group in preferences], figures)


def prefer(judge: PairwiseModel, pairs: Sequence[tuple[Rollout, str]]) -> list[Preference]:
    """Each sample against a reference answer."""
    return judge.prefer([Comparison(r.question, answer_of(r, judge), reference) for r, reference in pairs])


def answer_of(rollout: Rollout, judge: PairwiseModel) -> str | None:
    """The sample's answer as the judge compares it; None where it was cut off or cannot be read."""
    return None if rollout.truncated else judge.answer(rollout.reading)


def reward_of(config: RewardedProblemsConfig, judge: PairwiseModel | None, references: Mapping[str, str]) -> Reward:
    """The reward that a source's problems are given."""
    if config.reward == "verdict":
        return verdict_rewards
    assert judge is not None
    return PreferenceRewards(judge, references)
