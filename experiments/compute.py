"""Compute of an arm, counted in token passes through the model: a forward pass is 1, a training step 3.

Student and teacher have the same shape, so passes are proportional to FLOPs. Attention, whose cost grows with length,
is ignored because all texts here are short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from thinkling.data.artifact import Artifact
from thinkling.stages.base import StageConfig
from thinkling.stages.dpd.config import DpdConfig

FORWARD, TRAINING = 1, 3


@dataclass(frozen=True)
class DpdPasses:
    """Token passes of a dpd stage."""

    sampling: float
    """Sampling prompts and completions with both models."""
    references: float
    """log π_ref of both completions of every pair."""
    step: float
    """One training step, on average."""
    steps: int

    @property
    def total(self) -> float:
        return self.sampling + self.references + self.step * self.steps


def dpd_passes(artifact: Artifact, config: DpdConfig) -> DpdPasses:
    """Token passes of a finished dpd stage with settings `config`, computed from its own samples and pairs.

    If `config` has other weights than the run, the result is what they would have cost on the same pairs.
    """
    from thinkling.generate.rollouts import Rollout, read_rollouts
    from thinkling.stages.dpd.pairs import FILE, by_problem, read_pairs, solved_by

    def samples(role: str) -> list[Rollout]:
        return [r for p in sorted((artifact.path / "samples" / role).glob("*.parquet")) for r in read_rollouts(p)]

    student, teacher, pairs = samples("student"), samples("teacher"), read_pairs(artifact.path / FILE)
    sides = [_mean(len(pair.prompt) + len(pair.sides[i].tokens) for pair in pairs) for i in (0, 1)]
    weights = config.weights
    needed = (weights.dpo or weights.kl_chosen, weights.dpo or weights.kl_rejected)
    tokens = config.batch_size * sum(length for length, need in zip(sides, needed, strict=True) if need)
    if config.holds:
        solved = solved_by(by_problem(student), config.sequence_length)
        tokens += config.solved_per_step * _mean(len(r.prompt) + len(r.tokens) for r in solved)
    return DpdPasses(
        sampling=FORWARD * sum(len(r.prompt) + len(r.tokens) for r in (*student, *teacher)),
        references=FORWARD * len(pairs) * sum(sides) if weights.dpo else 0.0,
        step=tokens * (TRAINING + (FORWARD if config.imitates else 0)),
        steps=config.steps,
    )


def steps_for(finished: Artifact, config: DpdConfig, fewer_terms: DpdConfig) -> int:
    """Number of steps with which `fewer_terms` costs as much as the finished stage with settings `config`."""
    whole, part = dpd_passes(finished, config), dpd_passes(finished, fewer_terms)
    return max(1, round((whole.total - part.sampling - part.references) / part.step))


def passes(artifact: Artifact, config: StageConfig) -> float:
    """Token passes of a dpd stage, or of an sft stage in its place."""
    return dpd_passes(artifact, config).total if isinstance(config, DpdConfig) else sft_passes(artifact)


def sft_passes(artifact: Artifact) -> float:
    """Token passes of an sft stage: training on its tokens."""
    return TRAINING * artifact.counts["tokens"]


def _mean(lengths: Iterable[int]) -> float:
    found = list(lengths)
    return math.fsum(found) / len(found)
