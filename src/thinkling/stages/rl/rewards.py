"""Rewards of groups. A verdict is not a reward: only the verdicts right and wrong are converted into numbers. A
preference is already a number.

A reward is a function of a problem and one of its samples (`SampleReward`) that is listed with a weight in a recipe's
`rewards`. Only preference rewards use a model, which is why they process many groups at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thinkling.data.reading import Reading
from thinkling.generate.pairwise import Comparison, Pairwise
from thinkling.generate.rollouts import Rollout
from thinkling.stages.rl.config import PREFERENCE, REWARDS, RewardedProblemsConfig
from thinkling.tasks.problem import Problem
from thinkling.verify.preference import Preference, grade, is_graded, win
from thinkling.verify.verdict import Outcome

Group = tuple[Problem, Sequence[Rollout]]
"""A problem and its samples."""


@dataclass(frozen=True)
class Judged:
    """Rewards of groups."""

    rewards: list[list[float | None]]
    """One reward per sample; None for a sample that must be removed from its group."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Name → values of other figures worth monitoring. metrics.jsonl reports the mean of the values."""


Reward = Callable[[Sequence[Group]], Judged]
"""Computes the rewards of many groups at once, so that a preference model can batch them. The rewards of a group must
not depend on other groups."""


SampleReward = Callable[[Problem, Rollout], float | None]
"""Computes the reward of one sample. None means that the sample has no reward and is removed from its group."""


def verdict(problem: Problem, rollout: Rollout) -> float | None:
    """Returns 1 for the verdict right and 0 for the verdict wrong; truncated samples count as wrong. Returns None for
    the verdicts unverifiable, timeout and error, so that the sample is removed from its group."""
    return {Outcome.RIGHT.value: 1.0, Outcome.WRONG.value: 0.0}.get(rollout.outcome)


def well_formed(problem: Problem, rollout: Rollout) -> float:
    """Returns 1 if the reply can be parsed (reasoning closed, calls answered, answer not empty), otherwise 0."""
    return float(not rollout.truncated and rollout.reading.well_formed)


class WeightedRewards:
    """The weighted sum of several rewards. If there is more than one reward, the figures include the values of each
    reward."""

    def __init__(self, rewards: Mapping[str, tuple[float, Reward]]) -> None:
        self.rewards = dict(rewards)

    def __call__(self, groups: Sequence[Group]) -> Judged:
        found = {name: (weight, reward(groups)) for name, (weight, reward) in self.rewards.items()}
        totals = [
            [
                _weighted([(weight, judged.rewards[g][i]) for weight, judged in found.values()])
                for i in range(len(rollouts))
            ]
            for g, (_, rollouts) in enumerate(groups)
        ]
        figures = {name: values for _, judged in found.values() for name, values in judged.figures.items()}
        if len(found) > 1:
            for name, (_, judged) in found.items():
                figures[f"reward_of_{name}"] = [v for group in judged.rewards for v in group if v is not None]
        return Judged(totals, figures)


def _weighted(values: Sequence[tuple[float, float | None]]) -> float | None:
    known = [weight * value for weight, value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def by_sample(reward: SampleReward) -> Reward:
    """Wraps a reward of single samples as a reward of groups."""
    return lambda groups: Judged([[reward(problem, rollout) for rollout in rollouts] for problem, rollouts in groups])


class PreferenceRewards:
    """Probability, from 0 to 1, that a pairwise model prefers a sample to the problem's reference.

    Each problem has one reference, so each sample needs only one comparison. `references`: problem id → answer. If a
    rule also grades the problem, the figures include the rule's grade: if the reward rises but the grade does not, the
    trained model exploits the preference model.
    """

    def __init__(self, preference_model: Pairwise, references: Mapping[str, str]) -> None:
        self.preference_model, self.references = preference_model, references

    def __call__(self, groups: Sequence[Group]) -> Judged:
        asked = [(rollout, self.references[problem.id]) for problem, rollouts in groups for rollout in rollouts]
        found = iter(prefer(self.preference_model, asked))
        preferences = [[next(found) for _ in rollouts] for _, rollouts in groups]
        flat = [p for group in preferences for p in group]
        figures = {"preference_consistent": [float(p.consistent) for p in flat]}
        graded = [(problem, r) for problem, rollouts in groups if is_graded(problem) for r in rollouts]
        if graded:
            grades = [grade(problem, r.reading, r.truncated) for problem, r in graded]
            references = [grade(problem, Reading.of(self.references[problem.id]), False) for problem, _ in graded]
            figures["rule_grade"] = grades
            figures["rule_win_rate"] = [win(a, b) for a, b in zip(grades, references, strict=True)]
        return Judged([[p.reward for p in group] for group in preferences], figures)


def prefer(preference_model: Pairwise, pairs: Sequence[tuple[Rollout, str]]) -> list[Preference]:
    """Compares each sample with a reference answer."""
    return preference_model.prefer(
        [Comparison(r.question, answer_of(r, preference_model), reference) for r, reference in pairs]
    )


def answer_of(rollout: Rollout, preference_model: Pairwise) -> str | None:
    """Returns the sample's answer as the preference model sees it, or None if the sample was truncated or cannot be
    parsed."""
    return None if rollout.truncated else preference_model.answer(rollout.reading)


def reward_of(
    config: RewardedProblemsConfig, preference_model: Pairwise | None, references: Mapping[str, str]
) -> Reward:
    """Creates the reward for a source's problems."""
    found: dict[str, tuple[float, Reward]] = {}
    for name, weight in config.rewards.items():
        if name == PREFERENCE:
            assert preference_model is not None
            found[name] = weight, PreferenceRewards(preference_model, references)
        else:
            found[name] = weight, by_sample(REWARDS.resolve(name))
    return WeightedRewards(found)
