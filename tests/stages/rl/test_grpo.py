"""Advantages, the filter, and the loss against a plain implementation and against TRL's."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from thinkling.model.decoder import Decoder
from thinkling.stages.rl.grpo import GrpoObjective, LossBatch, Sample, advantages, informative, loss_batches

MAX_NEW = 12
CPU = torch.device("cpu")
Rewards = st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0]) | st.floats(-5, 5), min_size=2, max_size=16)


@given(Rewards, st.sampled_from(["mean", "mean_std"]))
def test_advantages_are_centred_and_keep_the_order(rewards: list[float], kind: str) -> None:
    found = advantages(rewards, kind)
    assert sum(found) == pytest.approx(0, abs=1e-6)
    pairs = sorted(zip(rewards, found, strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(pairs))


@given(Rewards)
def test_advantages_have_unit_variance_or_the_scale_of_the_rewards(rewards: list[float]) -> None:
    assert np.allclose(advantages(rewards, "mean"), np.array(rewards) - np.mean(rewards), atol=1e-12)
    std = np.std(rewards, ddof=1)
    expected = (np.array(rewards) - np.mean(rewards)) / (std + 1e-4)
    assert np.allclose(advantages(rewards, "mean_std"), expected, atol=1e-7)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 16))
def test_equal_rewards_teach_nothing(reward: float, n: int) -> None:
    assert not informative([reward] * n)


@given(Rewards)
def test_different_rewards_teach(rewards: list[float]) -> None:
    assert informative(rewards) == (len(set(rewards)) > 1)


def test_the_filter_does_not_trust_the_float_deviation() -> None:
    assert np.std([0.1] * 3) > 0
    assert not informative([0.1] * 3)
    assert np.std(np.float32([1.0, 1.0 + 1e-12])) == 0
    assert informative([1.0, 1.0 + 1e-12])


def samples(seed: int, n: int = 6, truncated: tuple[int, ...] = (), forced: bool = False) -> list[Sample]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        length = MAX_NEW if i in truncated else int(rng.integers(2, MAX_NEW))
        made.append(
            Sample(
                prompt=rng.integers(0, 260, int(rng.integers(1, 6))).tolist(),
                tokens=rng.integers(0, 260, length).tolist(),
                logprobs=rng.uniform(-7, -4, length).tolist(),
                forced=[forced and j % 3 == 1 for j in range(length)],
                advantage=float(rng.normal()),
                truncated=i in truncated,
            )
        )
    return made


def run(
    model: Decoder, batches: list[LossBatch], temperature: float, clip: tuple[float, float] | None
) -> tuple[float, dict[str, torch.Tensor], dict[str, float], GrpoObjective]:
    """Loss and gradients as the trainer would form them."""
    objective = GrpoObjective(CPU, temperature, clip)
    model.zero_grad()
    total, n, sums = 0.0, 0, {}
    for batch in batches:
        loss, count, metrics = objective(model, batch)
        loss.backward()
        total, n = total + float(loss.detach()), n + count
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    gradients = {name: p.grad.clone() / n for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return total / n, gradients, sums, objective


def plain(
    model: Decoder, chosen: list[Sample], normalisation: str, temperature: float, clip: tuple[float, float] | None
) -> tuple[float, dict[str, torch.Tensor]]:
    """The textbook loss, sample by sample, with whole logits."""
    model.zero_grad()
    per_sample, counts = [], []
    for s in chosen:
        ids = torch.tensor([*s.prompt, *s.tokens])
        logits = model.logits(model(ids[None]))[0] / temperature
        logp = F.log_softmax(logits, -1)[:-1].gather(1, ids[1:, None])[:, 0][len(s.prompt) - 1 :]
        ratio = torch.exp(logp - (logp.detach() if clip is None else torch.tensor(s.logprobs)))
        gain = ratio * s.advantage
        if clip is not None:
            gain = torch.minimum(gain, ratio.clamp(1 - clip[0], 1 + clip[1]) * s.advantage)
        mask = ~torch.tensor(s.forced) & (not s.truncated)
        per_sample.append((-gain * mask).sum())
        counts.append(int(mask.sum()))
    loss = {
        "tokens": lambda: sum(per_sample) / sum(counts),
        "sequences": lambda: sum(x / c for x, c in zip(per_sample, counts, strict=True) if c) / sum(map(bool, counts)),
        "dr_grpo": lambda: sum(per_sample) / (len(chosen) * MAX_NEW),
    }[normalisation]()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return float(loss.detach()), gradients


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-9), name


@pytest.mark.parametrize("normalisation", ["tokens", "sequences", "dr_grpo"])
@pytest.mark.parametrize("clip", [None, (0.2, 0.28)])
@pytest.mark.parametrize("micro_tokens", [20, 10_000])
def test_loss_and_gradient_equal_the_textbook(
    decoder: Decoder, normalisation: str, clip: tuple[float, float] | None, micro_tokens: int
) -> None:
    chosen = samples(3, truncated=(1, 4), forced=True)
    batches = loss_batches(chosen, normalisation, MAX_NEW, micro_tokens)
    assert (len(batches) > 1) == (micro_tokens == 20)
    loss, gradients, _, _ = run(decoder, batches, 0.7, clip)
    expected, plain_gradients = plain(decoder, chosen, normalisation, 0.7, clip)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_equal(gradients, plain_gradients)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize(
    ("normalisation", "loss_type"),
    [("tokens", "dapo"), ("tokens", "bnpo"), ("sequences", "grpo"), ("dr_grpo", "dr_grpo")],
)
@pytest.mark.parametrize("on_policy", [True, False])
def test_loss_and_gradient_equal_trl(decoder: Decoder, normalisation: str, loss_type: str, on_policy: bool) -> None:
    from trl import GRPOTrainer

    chosen, temperature = samples(5), 0.9
    clip = None if on_policy else (0.2, 0.28)
    loss, gradients, _, _ = run(decoder, loss_batches(chosen, normalisation, MAX_NEW, 10_000), temperature, clip)
    decoder.zero_grad()
    theirs = GRPOTrainer._compute_loss(*trl_inputs(decoder, chosen, temperature, loss_type, on_policy))
    theirs.backward()
    assert loss == pytest.approx(float(theirs.detach()), rel=1e-5, abs=1e-6)
    assert_equal(gradients, {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None})
    decoder.zero_grad()


def trl_inputs(
    model: Decoder, chosen: list[Sample], temperature: float, loss_type: str, on_policy: bool
) -> tuple[Any, Decoder, dict[str, torch.Tensor]]:
    """What TRL's `_compute_loss` reads of its trainer, and its padded batch."""

    def padded(rows: list[list[float]], left: bool, dtype: torch.dtype) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor(
            [[0] * (width - len(r)) + r if left else r + [0] * (width - len(r)) for r in rows], dtype=dtype
        )

    prompts, tokens = [list(s.prompt) for s in chosen], [list(s.tokens) for s in chosen]
    inputs = {
        "prompt_ids": padded(prompts, True, torch.long),
        "prompt_mask": padded([[1] * len(p) for p in prompts], True, torch.long),
        "completion_ids": padded(tokens, False, torch.long),
        "completion_mask": padded([[1] * len(t) for t in tokens], False, torch.long),
        "advantages": torch.tensor([s.advantage for s in chosen]),
        "num_items_in_batch": torch.tensor(sum(map(len, tokens))),
    }
    if not on_policy:
        inputs["old_per_token_logps"] = padded([list(s.logprobs) for s in chosen], False, torch.float32)

    def log_probs(model: Decoder, input_ids: torch.Tensor, mask: torch.Tensor, keep: int, **_: Any) -> Any:
        rows = []
        for ids, m in zip(input_ids, mask, strict=True):
            real = ids[m.bool()]
            logp = F.log_softmax(model.logits(model(real[None]))[0] / temperature, -1)
            row = logp[:-1].gather(1, real[1:, None])[:, 0]
            written = int(m[-keep:].sum())
            rows.append(F.pad(row[len(row) - written :], (0, keep - written)))
        found = torch.stack(rows)
        return found, torch.zeros_like(found), None

    class Anything:
        """Metrics and switches that the loss does not depend on: off."""

        def __getattr__(self, name: str) -> Any:
            return False

    trainer = Anything()
    trainer.__dict__.update(
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=0.0,
        loss_type=loss_type, epsilon_low=0.2, epsilon_high=0.28, max_completion_length=MAX_NEW,
        current_gradient_accumulation_steps=1, _get_per_token_logps_and_entropies=log_probs,
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=SimpleNamespace(
            num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    return trainer, model, inputs


def test_mismatch_is_what_the_log_probs_differ_by(decoder: Decoder) -> None:
    chosen = samples(7, n=3)
    exact = list(chosen)
    for i, s in enumerate(chosen):
        ids = torch.tensor([*s.prompt, *s.tokens])
        with torch.no_grad():
            logp = F.log_softmax(decoder.logits(decoder(ids[None]))[0], -1)[:-1].gather(1, ids[1:, None])[:, 0]
        exact[i] = Sample(s.prompt, s.tokens, logp[len(s.prompt) - 1 :].tolist(), s.forced, s.advantage)
    _, _, sums, objective = run(decoder, loss_batches(exact, "tokens", MAX_NEW, 10_000), 1.0, None)
    assert objective.max_mismatch < 1e-5
    assert sums["kl"] / sums["tokens"] < 1e-9
    off = Sample(exact[0].prompt, exact[0].tokens, [x - 0.5 for x in exact[0].logprobs], exact[0].forced, 1.0)
    _, _, sums, objective = run(decoder, loss_batches([off, *exact[1:]], "tokens", MAX_NEW, 10_000), 1.0, None)
    assert objective.max_mismatch == pytest.approx(0.5, abs=1e-4)
    expected = len(off.tokens) * (np.exp(0.5) - 1 - 0.5)
    assert sums["kl"] == pytest.approx(expected, rel=1e-3)
    objective.reset()
    assert objective.max_mismatch == 0.0


def test_truncated_and_forced_tokens_bear_no_loss() -> None:
    chosen = samples(1, n=4, truncated=(2,), forced=True)
    (batch,) = loss_batches(chosen, "tokens", MAX_NEW, 10_000)
    used = [s for s in chosen if not s.truncated]
    assert batch.lengths == tuple(len(s.prompt) + len(s.tokens) for s in used)
    assert batch.n == sum(not f for s in used for f in s.forced) == int((batch.labels_N >= 0).sum())
    assert loss_batches(samples(1, n=2, truncated=(0, 1)), "dr_grpo", MAX_NEW, 10_000) == []
