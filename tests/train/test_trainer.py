import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from thinkling.errors import UserError
from thinkling.train.callback import SKIPPED, Callback, SavedCheckpoint, StepMetrics
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig
from thinkling.train.trainer import Objective, Trainer, fit

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
    with pytest.raises(UserError, match="has no loss tokens"):
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


class Recorder(Callback):
    """What was called, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_start(self, first_step: int) -> None:
        self.calls.append(("start", first_step))

    def before_step(self, step: int) -> None:
        self.calls.append(("before", step))

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        self.calls.append(("step", step, metrics.n_tokens > 0, lr))

    def on_checkpoint(self, step: int, directory: Path) -> None:
        assert directory.is_dir()
        self.calls.append(("checkpoint", step, directory.name))

    def on_checkpoint_saved(self, saved: SavedCheckpoint) -> None:
        assert saved.path.is_dir()
        self.calls.append(("saved", saved.steps, saved.path.name))

    def on_end(self) -> None:
        self.calls.append(("end",))


def test_fit_calls_its_callbacks_in_order_and_resumes_where_it_ended(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path
) -> None:
    def run(total: int, seed: int) -> list[tuple[Any, ...]]:
        recorder = Recorder()
        trainer = Trainer(make_toy(seed=seed), OptimizerConfig(), objective)
        checkpoints = Checkpoints(tmp_path, every_steps=2)
        fit(trainer, lambda step: [make_batch(step)], lambda step: 0.01, total, checkpoints, [recorder])
        return recorder.calls

    assert run(3, seed=0) == [
        ("start", 0),
        ("before", 0),
        ("step", 0, True, 0.01),
        ("before", 1),
        ("step", 1, True, 0.01),
        ("checkpoint", 1, "step-00000002.tmp"),
        ("saved", 2, "step-00000002"),
        ("before", 2),
        ("step", 2, True, 0.01),
        ("checkpoint", 2, "step-00000003.tmp"),
        ("saved", 3, "step-00000003"),
        ("end",),
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert run(3, seed=9) == [("start", 3), ("end",)]
    assert run(5, seed=9)[:2] == [("start", 3), ("before", 3)]


def test_callbacks_end_also_where_a_step_fails(make_toy: Make, objective: Objective, tmp_path: Path) -> None:
    recorder = Recorder()

    def batches(step: int) -> Any:
        raise KeyboardInterrupt

    trainer = Trainer(make_toy(), OptimizerConfig(), objective)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, batches, lambda step: 0.01, 3, Checkpoints(tmp_path, every_steps=2), [recorder])
    assert recorder.calls == [("start", 0), ("before", 0), ("end",)]


def test_a_step_without_a_batch_changes_nothing(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path
) -> None:
    """Neither weights nor the optimizer's state, not even its step count; learning rate 0 is reported."""
    trainer = Trainer(make_toy(), OptimizerConfig(), objective)
    trainer.step([make_batch(0)], 0.01)
    before = {name: value.clone() for name, value in trainer.state_tensors().items()}
    reported: list[tuple[StepMetrics, float]] = []

    class Last(Callback):
        def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
            reported.append((metrics, lr))

    fit(trainer, lambda step: None, lambda step: 0.01, 2, Checkpoints(tmp_path, every_steps=2), [Last()])
    assert reported == [(SKIPPED, 0.0)] * 2
    assert all(torch.equal(before[name], value) for name, value in trainer.state_tensors().items())


def test_first_step_above_zero(make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = Trainer(make_toy(), OptimizerConfig(), objective)
    checkpoints = Checkpoints(tmp_path, every_steps=9)
    assert fit(trainer, lambda s: [make_batch(s)], lambda s: 0.01, 6, checkpoints, [recorder], first_step=4) == 4
    assert [call[1] for call in recorder.calls if call[0] == "step"] == [4, 5]
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000006"]
