"""Optimizer state in host memory: the same bits as on the device."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thinkling.train import offload
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.offload import HostState, divided
from thinkling.train.optimizer import Optimizer
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import Objective, Trainer

Make = Callable[..., Any]
BF16 = PrecisionConfig(compute="bfloat16", weights="bfloat16")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that divide the toy's embedding and matrices, of 512 elements each."""
    monkeypatch.setattr(offload, "PART", 256)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=8), st.integers(1, 5).map(lambda n: 256 * n))
def test_every_element_is_in_one_part(sizes: list[int], most: int) -> None:
    parts = divided(sizes, most)
    seen = {i: [] for i in range(len(sizes))}
    for part in parts:
        assert sum(-(-(s.stop - s.start) // 256) * 256 for _, s in part) <= most
        assert all(s.start % 256 == 0 for _, s in part)
        for i, s in part:
            seen[i].append((s.start, s.stop))
    assert [i for part in parts for i, _ in part] == sorted(i for part in parts for i, _ in part)
    for i, size in enumerate(sizes):
        assert seen[i][0][0] == 0
        assert seen[i][-1][1] == size
        assert all(one[1] == after[0] for one, after in zip(seen[i], seen[i][1:], strict=False))
        assert size == 0 or all(start < stop for start, stop in seen[i])


def test_state_is_lent_and_copied_back() -> None:
    host = HostState(torch.device("cpu"))
    params = [nn.Parameter(torch.zeros(shape)) for shape in ((40, 20), (3,), (300,))]
    states = {p: {key: host.zeros_like(p) for key in offload.MOMENTS} for p in params}
    for i, state in enumerate(states.values()):
        state["exp_avg"].fill_(i + 1.0)
    n_parts = 0
    for part in host.stream(states):
        n_parts += 1
        for piece in part:
            number = (
                params.index(piece.parameter)
                if len(params) == 1
                else [p is piece.parameter for p in params].index(True)
            )
            assert (piece.mean == number + 1).all()
            assert (piece.square == 0).all()
            assert piece.mean.data_ptr() % 512 == part[0].mean.data_ptr() % 512
            piece.mean.add_(10.0)
            piece.square.copy_(torch.arange(piece.elements.start, piece.elements.stop))
    assert n_parts == 7  # 800 elements in 4 pieces of at most 256, the 3 elements, and 300 in 2 pieces
    for i, (p, state) in enumerate(states.items()):
        assert (state["exp_avg"] == i + 11).all()
        assert torch.equal(state["exp_avg_sq"].view(-1), torch.arange(p.numel(), dtype=torch.float32))


@pytest.mark.parametrize("precision", [PrecisionConfig(), BF16], ids=["fp32", "bf16"])
def test_training_with_offload_is_the_same_training(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path, precision: PrecisionConfig
) -> None:
    """Metrics, weights, optimizer state and the bytes of checkpoints, with clipping and micro-batches."""
    found = []
    for name, on_host in (("device", False), ("host", True)):
        config = OptimizerConfig(weight_decay=0.1, clip_norm=0.5, offload=on_host)
        trainer = Trainer(make_toy(tied=False), config, objective, precision=precision, seed=5)
        torch.manual_seed(0)
        metrics = [trainer.step([make_batch(step), make_batch(step + 100)], 0.01) for step in range(6)]
        path = Checkpoints(tmp_path / name, 1).save(6, trainer.state_tensors())
        files = {file.name: file.read_bytes() for file in sorted(path.iterdir())}
        found.append((metrics, {n: x.clone() for n, x in trainer.state_tensors().items()}, files))
    (metrics, tensors, files), (same_metrics, same_tensors, same_files) = found
    assert metrics == same_metrics
    assert tensors.keys() == same_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, same_tensors[name]), name
    assert files == same_files
    assert tensors["optimizer.layers.0.up.weight.exp_avg"].abs().max() > 0


def test_checkpoints_are_read_with_and_without_offload(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path
) -> None:
    def trainer(on_host: bool, seed: int = 0) -> Trainer:
        return Trainer(make_toy(seed), OptimizerConfig(offload=on_host), objective)

    for before, after in ((False, True), (True, False)):
        first = trainer(before)
        for step in range(3):
            first.step([make_batch(step)], 0.01)
        path = Checkpoints(tmp_path / str(before), 1).save(3, first.state_tensors())
        second = trainer(after, seed=1)
        Checkpoints(tmp_path / str(before), 1).load(path, second.state_tensors())
        assert first.step([make_batch(3)], 0.01) == second.step([make_batch(3)], 0.01)
        for (name, x), y in zip(first.state_tensors().items(), second.state_tensors().values(), strict=True):
            assert torch.equal(x, y), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_on_the_device_with_offload(make_toy: Make, dtype: torch.dtype) -> None:
    """`step_on_device`, which a GPU uses: a step, a step that is not usable, and a step of some parameters only."""
    model = make_toy(tied=False).to(dtype)
    twin = copy.deepcopy(model)
    here = Optimizer(model, OptimizerConfig(weight_decay=0.1), Parallel(), seed=3)
    there = Optimizer(twin, OptimizerConfig(weight_decay=0.1, offload=True), Parallel(), seed=3)
    for step, usable in enumerate((True, False, True)):
        for each, optimizer in ((model, here), (twin, there)):
            torch.manual_seed(step)
            for name, p in each.named_parameters():
                g = torch.randn_like(p)
                p.grad = None if step == 2 and name.startswith("layers.0") else g
            gradients = optimizer.gradients()
            optimizer.step_on_device(0.01, gradients, torch.tensor(0.25).double(), torch.tensor(usable))
            if not usable:
                optimizer.undo_step(gradients)
        for (name, x), y in zip(here.state_tensors().items(), there.state_tensors().values(), strict=True):
            assert torch.equal(x, y), (step, name)
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.equal(p, q), (step, name)
    counts = {float(x) for name, x in there.state_tensors().items() if name.endswith(".step")}
    assert counts == {1.0, 2.0}


def test_muon_is_refused() -> None:
    with pytest.raises(ValueError, match="offload: not supported with muon, which updates all matrices of a shape"):
        OptimizerConfig(name="muon", offload=True)
