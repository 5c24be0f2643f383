import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from thinkling.errors import UserError
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig
from thinkling.train.trainer import Objective, StepMetrics, Trainer, fit

Make = Callable[..., Any]


def test_a_step_is_the_plain_loop(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    """Mean loss over tokens, torch's clipping, AdamW: against the loop that a textbook has."""
    model = make_toy()
    twin = copy.deepcopy(model)
    trainer = Trainer(model, OptimizerConfig(clip_norm=0.5, weight_decay=0.0), objective)
    torchs = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(5):
        tokens, labels = make_batch(step)
        metrics = trainer.step([(tokens, labels)], 0.01)
        torchs.zero_grad()
        loss = nn.functional.cross_entropy(twin(tokens).flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        torchs.step()
        assert metrics.loss == pytest.approx(loss.item(), rel=1e-5)
        assert metrics.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert metrics.grad_norm > 0.5  # the clip is at work
        assert metrics.n_tokens == int((labels != -100).sum())
    for (name, p), q in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert (p - q[1]).abs().max() <= 1e-5 * q[1].abs().max(), name
        assert p.grad is None


def test_accumulation_changes_nothing_but_rounding(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    """1 × 8 rows, 4 × 2 rows and ragged pieces with unequal numbers of loss tokens."""
    curves: list[list[StepMetrics]] = []
    for sizes in ([8], [2, 2, 2, 2], [1, 5, 2]):
        trainer = Trainer(make_toy(), OptimizerConfig(), objective)
        curve = []
        for step in range(8):
            tokens, labels = make_batch(step)
            pieces = list(zip(tokens.split(sizes), labels.split(sizes), strict=True))
            curve.append(trainer.step(pieces, 0.01))
        curves.append(curve)
    for curve in curves[1:]:
        for whole, cut in zip(curves[0], curve, strict=True):
            assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
            assert cut.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
            assert (cut.n_tokens, cut.metrics) == (whole.n_tokens, whole.metrics)
    assert curves[0][0].metrics["rows"] == 8.0
    assert curves[0][-1].loss < curves[0][0].loss


def test_clipping_bounds_the_update_direction_not_the_report(
    make_toy: Make, make_batch: Make, objective: Objective
) -> None:
    reports = {}
    moments = {}
    for clip in (None, 1e6, 0.1):
        trainer = Trainer(make_toy(), OptimizerConfig(clip_norm=clip, betas=(0.0, 0.0)), objective)
        reports[clip] = trainer.step([make_batch(0)], 0.01).grad_norm
        # With beta1 = 0 the first moment is the gradient that reached the optimizer.
        state = trainer.optimizer.state_tensors()
        moments[clip] = math.sqrt(sum(v.square().sum().item() for k, v in state.items() if k.endswith("exp_avg")))
    assert reports[None] == reports[1e6] == reports[0.1]
    assert moments[None] == moments[1e6] == pytest.approx(reports[None], rel=1e-5)
    assert moments[0.1] == pytest.approx(0.1, rel=1e-5)


def test_a_batch_without_loss_tokens_changes_no_weight(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    model = make_toy()
    before = copy.deepcopy(model.state_dict())
    tokens, labels = make_batch(0)
    trainer = Trainer(model, OptimizerConfig(), objective)
    with pytest.raises(UserError, match="no token"):
        trainer.step([(tokens, torch.full_like(labels, -100))], 0.01)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_diverged_step_changes_no_weight(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    model = make_toy()
    before = copy.deepcopy(model.state_dict())

    def broken(model: nn.Module, batch: Any) -> Any:
        loss, n, metrics = objective(model, batch)
        return loss * math.inf, n, metrics

    trainer = Trainer(model, OptimizerConfig(), broken)
    with pytest.raises(UserError, match=r"diverged.*lower the optimizer.s lr"):
        trainer.step([make_batch(0)], 0.01)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_fit_calls_its_callbacks_in_order_and_resumes_where_it_ended(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    def lr(step: int) -> float:
        calls.append(("lr", step))
        return 0.01

    def run(total: int, trainer: Trainer) -> int:
        return fit(
            trainer,
            lambda step: [make_batch(step)],
            lr,
            total,
            Checkpoints(tmp_path, every_steps=2),
            before_step=lambda step: calls.append(("before", step)),
            on_metrics=lambda step, metrics: calls.append(("metrics", step, metrics.n_tokens > 0)),
            on_resume=lambda first, extra: calls.append(("resume", first, extra)),
            extra=lambda: {"calls": len(calls)},
        )

    assert run(3, Trainer(make_toy(), OptimizerConfig(), objective)) == 0
    assert calls == [c for s in range(3) for c in (("before", s), ("lr", s), ("metrics", s, True))]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    calls.clear()
    assert run(3, Trainer(make_toy(seed=9), OptimizerConfig(), objective)) == 3
    assert calls == [("resume", 3, {"calls": 9})]
    calls.clear()
    assert run(5, Trainer(make_toy(seed=9), OptimizerConfig(), objective)) == 3
    assert calls[:2] == [("resume", 3, {"calls": 9}), ("before", 3)]
