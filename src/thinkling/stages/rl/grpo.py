"""GRPO (arXiv 2402.03300 §4.1) without a KL term: advantages, the group filter, and the loss over packed samples.

Shapes: N tokens of a micro-batch, D hidden size, V vocabulary size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from thinkling.generate.rollouts import Rollout
from thinkling.labels import IGNORE
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.loss import chunked_log_probs
from thinkling.stages.rl.config import RlConfig

STD_FLOOR = 1e-4
"""Added to the standard deviation, as in TRL, so that tiny differences between real-valued rewards are not
amplified."""


def informative(rewards: Sequence[float]) -> bool:
    """Whether a group yields a gradient, i.e. whether its rewards are not all equal. The rewards are compared exactly,
    because the standard deviation of equal floats need not be 0 (NeMo-RL PR 4158)."""
    return any(reward != rewards[0] for reward in rewards)


def advantages(rewards: Sequence[float], kind: str) -> list[float]:
    """Returns the rewards minus their mean. With `mean_std`, the differences are divided by the sample standard
    deviation + 1e-4. At least two rewards are required."""
    n = len(rewards)
    mean = math.fsum(rewards) / n
    centred = [reward - mean for reward in rewards]
    if kind == "mean":
        return centred
    std = math.sqrt(math.fsum(x * x for x in centred) / (n - 1))
    return [x / (std + STD_FLOOR) for x in centred]


@dataclass(frozen=True)
class Sample:
    """A completion with its advantage."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    logprobs: Sequence[float]
    """ln p of each token under the policy that sampled it."""
    forced: Sequence[bool]
    """Whether each token was written by a tool. Tokens written by a tool carry no loss."""
    advantage: float
    truncated: bool = False
    """Whether the sample was truncated. Truncated samples contribute to the mean of their group, but carry no loss."""


def samples_of(rollouts: Sequence[Rollout], rewards: Sequence[float], kind: str) -> list[Sample]:
    """Converts the rollouts of a group to samples."""
    return [
        Sample(r.prompt, r.tokens, r.logprobs, r.forced, advantage, r.truncated)
        for r, advantage in zip(rollouts, advantages(rewards, kind), strict=True)
    ]


@dataclass(frozen=True)
class LossBatch:
    """Samples concatenated into one row without padding. Each prompt forms one document with its completion."""

    tokens_N: np.ndarray
    """int64."""
    labels_N: np.ndarray
    """int64, shifted: the token to predict, or -100 at positions without loss."""
    advantages_N: np.ndarray
    """fp32: advantage of each token, stored at the position that predicts the token; 0 at all other positions. The
    fields `behaviour_N` and `weights_N` have the same layout."""
    behaviour_N: np.ndarray
    """fp32: ln p under the policy that sampled the token."""
    weights_N: np.ndarray
    """fp32: weight of the token's loss."""
    lengths: tuple[int, ...]
    n: int
    """This micro-batch's share of the divisor of the summed loss."""


def loss_batches(
    samples: Sequence[Sample], normalisation: str, max_new_tokens: int, micro_tokens: int
) -> list[LossBatch]:
    """Returns micro-batches of about `micro_tokens` tokens, or an empty list if no sample carries loss.

    Truncated samples are omitted because their loss is masked. Samples in which every token is forced are omitted
    because they carry no loss. With `dr_grpo`, omitted samples still count in the divisor, which does not depend on
    lengths.
    """
    used = [s for s in samples if not s.truncated and not all(s.forced)]
    if not used:
        return []
    batches = [_pack(part, normalisation, max_new_tokens) for part in _cut(used, micro_tokens)]
    if normalisation == "dr_grpo":
        missing = (len(samples) - len(used)) * max_new_tokens
        batches[0] = LossBatch(**{**vars(batches[0]), "n": batches[0].n + missing})
    return batches


def _cut(samples: Sequence[Sample], micro_tokens: int) -> Iterator[Sequence[Sample]]:
    starts, room = [0], micro_tokens
    for i, sample in enumerate(samples):
        length = len(sample.prompt) + len(sample.tokens)
        if length > room and i > starts[-1]:
            starts.append(i)
            room = micro_tokens
        room -= length
    return (samples[a:b] for a, b in pairwise([*starts, len(samples)]))


def _pack(samples: Sequence[Sample], normalisation: str, max_new_tokens: int) -> LossBatch:
    lengths = tuple(len(s.prompt) + len(s.tokens) for s in samples)
    total = sum(lengths)
    tokens, labels = np.empty(total, dtype=np.int64), np.full(total, IGNORE, dtype=np.int64)
    advantage, behaviour, weights = (np.zeros(total, dtype=np.float32) for _ in range(3))
    n, start = 0, 0
    for sample, length in zip(samples, lengths, strict=True):
        written = np.array(sample.tokens, dtype=np.int64)
        own = ~np.array(sample.forced, dtype=bool)
        opening = start + len(sample.prompt)
        tokens[start:opening], tokens[opening : start + length] = sample.prompt, written
        predicting = slice(opening - 1, start + length - 1)
        labels[predicting] = np.where(own, written, IGNORE)
        advantage[predicting] = np.where(own, sample.advantage, 0.0)
        behaviour[predicting] = np.where(own, np.array(sample.logprobs), 0.0)
        count = int(own.sum())
        weights[predicting] = own / count if normalisation == "sequences" else own
        n += {"tokens": count, "sequences": 1, "dr_grpo": max_new_tokens}[normalisation]
        start += length
    return LossBatch(tokens, labels, advantage, behaviour, weights, lengths, n)


class GrpoObjective:
    """The clipped policy-gradient loss of a `LossBatch`, as an objective for `Trainer`.

    If training is on-policy (`clip` is None), the denominator of the probability ratio is the trainer's own detached
    probability. The value of the ratio is then 1, and its gradient is the policy gradient. Otherwise, the denominator
    is the probability recorded when the token was sampled. In both cases, the trainer's log-probabilities are compared
    with the recorded ones: `max_mismatch` is the largest |Δ ln p| since `reset`, and the mean KL divergence is computed
    from the logged sums.
    """

    def __init__(self, device: torch.device, temperature: float, clip: tuple[float, float] | None) -> None:
        self.device, self.temperature, self.clip = device, temperature, clip
        self.reset()

    def reset(self) -> None:
        """Resets `max_mismatch`."""
        self._max = torch.zeros((), device=self.device)

    @property
    def max_mismatch(self) -> float:
        return float(self._max)

    def __call__(self, model: nn.Module, batch: LossBatch) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
        assert isinstance(model, Decoder)
        layout = DocumentLayout.from_lengths([batch.lengths], len(batch.tokens_N), self.device)
        x_BTD = model(self._tensor(batch.tokens_N).unsqueeze(0), layout)
        labels = self._tensor(batch.labels_N)
        logp = chunked_log_probs(x_BTD.flatten(0, 1), model.output_weight, labels, self.temperature)
        behaviour, advantage, weights = map(self._tensor, (batch.behaviour_N, batch.advantages_N, batch.weights_N))
        delta = (logp.detach() - behaviour).double()
        self._max = torch.maximum(self._max, delta.abs().max().to(self._max.dtype))
        ratio = torch.exp(logp - (logp.detach() if self.clip is None else behaviour))
        gain = ratio * advantage
        metrics: dict[str, float | Tensor] = {
            "tokens": int((batch.labels_N != IGNORE).sum()),
            # Schulman's k3 estimate of KL(sampling policy ‖ trained policy); positions without loss add 0.
            "kl": (torch.expm1(delta) - delta).sum(),
            "clipped": 0.0,
        }
        if self.clip is not None:
            low, high = self.clip
            bounded = ratio.clamp(1 - low, 1 + high) * advantage
            metrics["clipped"] = (bounded < gain).sum()
            gain = torch.minimum(gain, bounded)
        return -(gain * weights).sum(), batch.n, metrics

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def objective_of(config: RlConfig, device: torch.device) -> GrpoObjective:
    """Creates the training objective of a stage."""
    clip = (config.clip_low, config.clip_high) if config.updates_per_batch > 1 else None
    return GrpoObjective(device, config.temperature, clip)
