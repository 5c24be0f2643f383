"""Collects the rollouts of a step: samples, judges and rewards them, drops uninformative groups, and refills.

Each round of samples is written to disk once it is judged. A resumed run reads the stored rounds instead of sampling
again, so that verdicts that depend on timing stay the same.
"""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thinkling.data.seals import drop_damaged, lost, require
from thinkling.generate.first_look import refuse_unreadable
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Sampler, sample_and_score
from thinkling.seeds import derive
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.rl.grpo import Sample, informative, samples_of
from thinkling.stages.rl.prompts import Prompts
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome


@dataclass
class Rollouts:
    """Rollouts collected for a step."""

    groups: list[list[Sample]] = field(default_factory=list)
    """Informative groups, in the order in which they were requested."""
    sampled: list[Rollout] = field(default_factory=list)
    """All samples, including those of dropped groups."""
    rewards: dict[str, list[float]] = field(default_factory=dict)
    """All rewards by source, including those of dropped groups."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Additional figures that the rewards report, by name."""
    equal: int = 0
    """Number of groups that were dropped because all of their rewards are equal."""
    too_small: int = 0
    """Number of groups that were dropped because too few of their samples have a reward."""
    refills: int = 0
    """Number of groups that were requested after the first round."""
    missing: int = 0
    """Number of requested groups for which no informative group was obtained."""

    def statistics(self) -> dict[str, Any]:
        """Returns the figures for metrics.jsonl. Fractions and means are taken over all samples."""
        n = len(self.sampled)
        outcomes = Counter(r.outcome for r in self.sampled)
        several = {f"reward_{source}": values for source, values in self.rewards.items() if len(self.rewards) > 1}
        return {
            "reward": _mean([value for values in self.rewards.values() for value in values]),
            **{name: _mean(values) for name, values in (several | self.figures).items()},
            "thinking_fraction": sum(r.thinks for r in self.sampled) / n,
            "mean_length": sum(r.n_tokens for r in self.sampled) / n,
            "truncated_fraction": sum(r.truncated for r in self.sampled) / n,
            "samples": n,
            "undecided": n - outcomes[Outcome.RIGHT] - outcomes[Outcome.WRONG],
            "groups": len(self.groups),
            "groups_equal": self.equal,
            "groups_too_small": self.too_small,
            "groups_refilled": self.refills,
            "groups_missing": self.missing,
        }


class Collector:
    """Collects samples that are generated with the engine's current weights."""

    def __init__(
        self,
        stage: str,
        sampler: Sampler,
        prompts: Prompts,
        config: RlConfig,
        seed: int,
        store: Path,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        """`stage`: the stage's name, for error messages. `store`: directory for rollouts, with one subdirectory per
        step. `warn`: called with a warning about corrupt rollouts."""
        self.stage, self.sampler, self.prompts = stage, sampler, prompts
        self.config, self.seed, self.store, self._warn = config, seed, store, warn

    def resume(self, step: int) -> None:
        """Checks the rollouts that a killed run left, before `step` is collected. Corrupt rollouts of this step and
        later steps are sampled again.

        Raises UserError if rollouts of earlier steps that belong in the artifact are corrupt or missing.
        """
        for past in range(0, step, self.config.rollouts_every):
            if not self._directory(past).is_dir():
                raise lost(f"{self._directory(past)}: is missing", self.store.parent)
        for directory in sorted(self.store.glob("[0-9]*")):
            if int(directory.name) >= step:
                drop_damaged(directory, self._warn, "sampling it again")
            elif not int(directory.name) % self.config.rollouts_every:
                require(directory, self.store.parent)
        self.prune(step)

    def _directory(self, step: int) -> Path:
        return self.store / f"{step:05d}"

    def collect(self, step: int) -> Rollouts:
        """Samples in rounds until every pool has the requested number of informative groups, `max_refills` is used up,
        or no problem is left.

        Raises UserError if no sample of the first step is usable.
        """
        found = Rollouts()
        missing = self.prompts.wanted(step)
        waiting = [self.prompts.candidates(step, pool) for pool in range(len(missing))]
        for number in range(self.config.max_refills + 1):
            asked = [_take(waiting[pool], n) for pool, n in enumerate(missing)]
            if not any(asked):
                break
            sampled = self._sample(step, number, [problem for problems in asked for problem in problems])
            found.sampled += sampled
            found.refills += sum(map(len, asked)) if number else 0
            for pool, problems in enumerate(asked):
                size = self.config.samples_per_prompt
                mine, sampled = sampled[: size * len(problems)], sampled[size * len(problems) :]
                groups = [(problem, mine[i * size : (i + 1) * size]) for i, problem in enumerate(problems)]
                missing[pool] -= self._judge(pool, groups, found)
        found.missing = sum(missing)
        if not step:
            first_look = [(r.reading, r.truncated) for r in found.sampled]
            refuse_unreadable(first_look, self.sampler.max_new_tokens, f"stages.{self.stage}: first step")
        return found

    def _sample(self, step: int, number: int, problems: Sequence[Problem]) -> list[Rollout]:
        directory = self._directory(step)
        directory.mkdir(parents=True, exist_ok=True)
        return sample_and_score(
            self.sampler,
            problems,
            self.config.samples_per_prompt,
            derive(self.seed, "step", step),
            chunk=len(problems),
            store=directory,
            first_chunk=number,
        )

    def _judge(self, pool: int, groups: Sequence[tuple[Problem, list[Rollout]]], found: Rollouts) -> int:
        """Adds the informative groups to `found` and returns their number."""
        before = len(found.groups)
        judged_groups = self.prompts.pools[pool].reward(groups)
        rewards = found.rewards.setdefault(self.prompts.pools[pool].name, [])
        for name, figures in judged_groups.figures.items():
            found.figures.setdefault(name, []).extend(figures)
        for (_, rollouts), values in zip(groups, judged_groups.rewards, strict=True):
            judged = [(r, value) for r, value in zip(rollouts, values, strict=True) if value is not None]
            numbers = [value for _, value in judged]
            rewards += numbers
            if len(judged) < self.config.smallest_group:
                found.too_small += 1
            elif not informative(numbers):
                found.equal += 1
            else:
                found.groups.append(samples_of([r for r, _ in judged], numbers, self.config.advantage))
        return len(found.groups) - before

    def prune(self, before_step: int) -> None:
        """Deletes the rollouts of earlier steps, except those of every `rollouts_every`-th step."""
        for directory in sorted(self.store.glob("[0-9]*")):
            step = int(directory.name)
            if step < before_step and step % self.config.rollouts_every:
                shutil.rmtree(directory)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _take(problems: Iterator[Problem], n: int) -> list[Problem]:
    return [problem for _, problem in zip(range(n), problems, strict=False)]
