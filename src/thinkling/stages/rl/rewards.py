"""Rewards of groups. A verdict is not a reward: only right and wrong become numbers.

A further kind of reward is a function of this type, named in `ProblemsConfig.reward` and returned by `reward_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thinkling.generate.rollouts import Rollout
from thinkling.stages.rl.config import ProblemsConfig
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome

Group = tuple[Problem, Sequence[Rollout]]
"""A problem and its samples."""
Reward = Callable[[Sequence[Group]], list[list[float | None]]]
"""Groups → a reward for each sample, None for one that leaves its group. Takes many groups at once, so that a judge
that is a model can batch them; a group's rewards must not depend on the others."""


def verdict_rewards(groups: Sequence[Group]) -> list[list[float | None]]:
    """Right 1, wrong (also cut off) 0; unverifiable, timeout and error leave the group."""
    values: dict[str, float] = {Outcome.RIGHT.value: 1.0, Outcome.WRONG.value: 0.0}
    return [[values.get(rollout.outcome) for rollout in rollouts] for _, rollouts in groups]


def reward_of(config: ProblemsConfig) -> Reward:
    """The reward that a source's problems are given."""
    return {"verdict": verdict_rewards}[config.reward]
