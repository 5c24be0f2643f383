"""Steps that are skipped because their gradient is far larger than usual."""

import copy
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thinkling.errors import UserError
from thinkling.train.callback import StepMetrics
from thinkling.train.checkpoint import Checkpoints, keep_state, read_state
from thinkling.train.config import OptimizerConfig, PrecisionConfig, SpikesConfig
from thinkling.train.optimizer import Optimizer
from thinkling.train.parallel import Parallel
from thinkling.train.spikes import GUARD, SpikeGuard
from thinkling.train.trainer import Objective, Trainer, fit

Make = Callable[..., Any]
SKIP = SpikesConfig(factor=3.0, window=3, limit=2)
BAD = {5: 50.0, 6: math.inf, 9: math.nan}
"""Step → factor of its loss."""


def spiking(objective: Objective) -> Objective:
    """The objective, for batches (factor, batch)."""

    def scaled(model: nn.Module, batch: Any) -> Any:
        loss, n, metrics = objective(model, batch[1])
        return loss * batch[0], n, metrics

    return scaled


positive = st.floats(1e-3, 1e3)


@given(
    st.lists(st.tuples(positive | st.just(math.nan) | st.just(math.inf), positive), max_size=40),
    st.integers(2, 5),
    st.sampled_from([None, 1.5, 4.0]),
)
def test_limits_are_multiples_of_the_median_of_the_last_accepted_steps(
    steps: list[tuple[float, float]], window: int, loss_factor: float | None
) -> None:
    guard = SpikeGuard(SpikesConfig(factor=2.0, loss_factor=loss_factor, window=window, limit=50))
    accepted: list[tuple[float, float]] = []
    skipped = 0
    for norm, loss in steps:
        most = (math.inf, math.inf)
        if len(accepted) >= window:
            norms, losses = zip(*accepted[-window:], strict=True)
            most = (
                2.0 * statistics.median_low(norms),
                loss_factor * statistics.median_low(losses) if loss_factor else math.inf,
            )
        assert guard.limits() == pytest.approx(most)
        limits = guard.limits()
        if math.isfinite(norm) and norm <= limits[0] and loss <= limits[1]:
            guard.accept(norm, loss)
            accepted.append((norm, loss))
        else:
            guard.refuse(norm, loss)
            skipped += 1
    assert guard.n_skipped == skipped


def test_a_median_of_zero_is_not_a_limit() -> None:
    guard = SpikeGuard(SpikesConfig(window=2, loss_factor=2.0))
    for _ in range(2):
        guard.accept(0.0, -1.0)
    assert guard.limits() == (math.inf, math.inf)


def curve(trainer: Trainer, make_batch: Make, steps: range) -> list[StepMetrics]:
    return [trainer.step([(BAD.get(step, 1.0), make_batch(step))], 0.01) for step in steps]


@pytest.mark.parametrize("path", ["cpu", "gpu"])
@pytest.mark.parametrize("precision", [PrecisionConfig(), PrecisionConfig(compute="bfloat16", weights="bfloat16")])
def test_training_with_skipped_steps_is_training_without_them(
    make_toy: Make,
    make_batch: Make,
    objective: Objective,
    precision: PrecisionConfig,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the path of GPUs, the update is started before the host knows the norm."""
    monkeypatch.setattr(Optimizer, "waits_for_host", property(lambda self: path == "cpu"))
    guarded = Trainer(make_toy(), OptimizerConfig(), spiking(objective), precision=precision)
    guarded.guard = SpikeGuard(SKIP)
    plain = Trainer(make_toy(), OptimizerConfig(), spiking(objective), precision=precision)
    found = curve(guarded, make_batch, range(12))
    wanted = [plain.step([(1.0, make_batch(step))], 0.01) for step in range(12) if step not in BAD]
    assert [step for step in range(12) if found[step].skipped] == sorted(BAD)
    assert [m.n_skipped for m in found] == [0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert [(m.loss, m.grad_norm) for m in found if not m.skipped] == [(m.loss, m.grad_norm) for m in wanted]
    there = guarded.state_tensors()
    for name, tensor in plain.state_tensors().items():
        assert torch.equal(there[name], tensor), name
    assert there.keys() - plain.state_tensors().keys() == {GUARD + "recent", GUARD + "skipped"}


def test_a_guard_that_finds_no_spike_changes_nothing(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    plain, guarded = (Trainer(make_toy(), OptimizerConfig(), objective) for _ in range(2))
    guarded.guard = SpikeGuard(SpikesConfig(factor=1e6, window=2))
    for step in range(4):
        one, other = (trainer.step([make_batch(step)], 0.01) for trainer in (plain, guarded))
        assert (one.n_skipped, other.n_skipped) == (None, 0)
        assert (one.loss, one.grad_norm, one.metrics) == (other.loss, other.grad_norm, other.metrics)
    assert all(torch.equal(x, guarded.state_tensors()[name]) for name, x in plain.state_tensors().items())


def test_more_than_limit_spikes_in_a_row_end_training(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    trainer = Trainer(make_toy(), OptimizerConfig(), spiking(objective))
    trainer.guard = SpikeGuard(SKIP)
    factors = [100.0 if kind == "x" else 1.0 for kind in "---xx-xx-xx"]
    for step, factor in enumerate(factors):
        trainer.step([(factor, make_batch(step))], 0.001)
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(UserError, match=r"spikes\.limit: 3 steps in a row are spikes, .*norm .* \(limit ") as caught:
        trainer.step([(100.0, make_batch(len(factors)))], 0.001)
    assert len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(x, before[name]) for name, x in trainer.model.state_dict().items())


def test_stop_ends_training_at_the_first_spike(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    trainer = Trainer(make_toy(), OptimizerConfig(), spiking(objective))
    trainer.guard = SpikeGuard(SpikesConfig(action="stop", factor=3.0, window=3))
    curve(trainer, make_batch, range(5))
    with pytest.raises(UserError, match=r"spikes: a spike in training, loss .* lower the optimizer's lr"):
        curve(trainer, make_batch, range(5, 6))


def test_a_batch_without_loss_tokens_is_not_a_spike(make_toy: Make, make_batch: Make, objective: Objective) -> None:
    trainer = Trainer(make_toy(), OptimizerConfig(), objective)
    trainer.guard = SpikeGuard(SKIP)
    tokens, labels = make_batch(0)
    with pytest.raises(UserError, match="has no loss tokens"):
        trainer.step([(tokens, torch.full_like(labels, -100))], 0.01)


@pytest.mark.parametrize("killed_at", range(1, 12))
def test_a_killed_run_skips_the_same_steps(
    make_toy: Make, make_batch: Make, make_curve: Make, objective: Objective, tmp_path: Path, killed_at: int
) -> None:
    def run(directory: Path, until: int | None) -> tuple[Trainer, dict[int, StepMetrics]]:
        def batches(step: int) -> list[Any]:
            if step == until:
                raise KeyboardInterrupt
            return [(BAD.get(step, 1.0), make_batch(step))]

        trainer = Trainer(make_toy(), OptimizerConfig(), spiking(objective))
        trainer.guard = SpikeGuard(SKIP)
        seen = make_curve()
        fit(trainer, batches, lambda step: 0.01, 12, Checkpoints(directory, 2), [seen])
        return trainer, seen.steps

    whole, wanted = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", killed_at)
    resumed, found = run(tmp_path / "cut", None)
    assert {step: repr(m) for step, m in found.items()} == {step: repr(wanted[step]) for step in found}
    for name, tensor in whole.state_tensors().items():
        assert torch.equal(resumed.state_tensors()[name], tensor), name


@pytest.mark.parametrize(("window", "taken"), [(3, True), (4, False), (None, False)])
def test_a_later_stage_takes_the_guard_only_if_it_fits(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path, window: int | None, taken: bool
) -> None:
    first = Trainer(make_toy(), OptimizerConfig(), objective)
    first.guard = SpikeGuard(SKIP)
    curve_of_four = [first.step([make_batch(step)], 0.01) for step in range(4)]
    keep_state(tmp_path / "state", first.state_tensors(), Parallel())
    later = Trainer(make_toy(1), OptimizerConfig(), objective)
    later.guard = None if window is None else SpikeGuard(SpikesConfig(window=window))
    read_state(tmp_path / "state", later.state_tensors(), Parallel(), optional=GUARD)
    assert torch.equal(later.model.state_dict()["norm.weight"], first.model.state_dict()["norm.weight"])
    if later.guard is not None:
        norms = later.guard.state_tensors()[GUARD + "recent"][0]
        assert norms.isnan().all() if not taken else norms.tolist() == [m.grad_norm for m in curve_of_four[1:]]
