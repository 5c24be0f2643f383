"""Selects the problems of each step with pure functions of (seed, step), so that a resumed run selects the same
problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from thinkling.data.mixture import assign
from thinkling.seeds import derive, permutation
from thinkling.stages.rl.rewards import Reward
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class PromptPool:
    """The problems of one source that the band kept."""

    name: str
    problems: Sequence[Problem]
    weight: float
    reward: Reward


class Prompts:
    """Allocates the groups of each step to pools, and orders each pool's problems."""

    def __init__(self, pools: Sequence[PromptPool], groups: int, steps: int, seed: int) -> None:
        self.pools, self.groups, self.seed = pools, groups, seed
        dealt = assign([pool.weight for pool in pools], steps * groups).reshape(steps, groups)
        self._per_step = np.stack([(dealt == i).sum(axis=1) for i in range(len(pools))], axis=1)
        self._before = np.cumsum(self._per_step, axis=0) - self._per_step

    def wanted(self, step: int) -> list[int]:
        """Returns the number of groups requested from each pool in a step."""
        return self._per_step[step].tolist()

    def candidates(self, step: int, pool: int) -> Iterator[Problem]:
        """Yields each problem of a pool once: first the problems that are scheduled for this step, then, for refills,
        all other problems in an order specific to the step. Over all steps, every problem is scheduled once per epoch,
        regardless of refills."""
        chosen, name = self.pools[pool], self.pools[pool].name
        n = len(chosen.problems)
        first = int(self._before[step, pool])
        turn: dict[int, None] = {}
        for slot in range(first, first + int(self._per_step[step, pool])):
            epoch, place = divmod(slot, n)
            turn[int(permutation(n, derive(self.seed, "prompts", name, epoch))[place])] = None
        for index in permutation(n, derive(self.seed, "refills", name, step)).tolist():
            turn.setdefault(index)
        return (chosen.problems[index] for index in turn)
