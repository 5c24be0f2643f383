import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from thinkling.errors import UserError
from thinkling.train.config import OptimizerConfig
from thinkling.train.optimizer import Optimizer, orthogonalize
from thinkling.train.parallel import Parallel


def random_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_adamw_equals_torch_with_decay_on_matrices_alone(make_toy: Callable[..., nn.Module]) -> None:
    model = make_toy(tied=False)
    twin = copy.deepcopy(model)
    ours = Optimizer(model, OptimizerConfig(weight_decay=0.5, betas=(0.8, 0.9)), Parallel())
    bare = [p for name, p in twin.named_parameters() if "norm" in name or "embedding" in name]
    decayed = [p for name, p in twin.named_parameters() if not ("norm" in name or "embedding" in name)]
    assert len(bare) == 4
    assert len(decayed) == 5  # two a layer, and the head of its own
    torchs = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.5}, {"params": bare, "weight_decay": 0.0}], betas=(0.8, 0.9), fused=True
    )
    for step in range(3):
        random_gradients(model, step)
        random_gradients(twin, step)
        ours.step(0.1 * (step + 1))
        for group in torchs.param_groups:
            group["lr"] = 0.1 * (step + 1)
        torchs.step()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q), name
    # State made ahead of the first step is the state that torch makes.
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        state = ours.optimizers[0].state[p]
        assert state.keys() == torchs.state[q].keys()
        for key, value in state.items():
            assert value.dtype == torchs.state[q][key].dtype
            assert torch.equal(value, torchs.state[q][key])


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_muon_equals_torchs_muon_in_float32(
    make_toy: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)  # theirs then iterates in float32, as ours does
    model = make_toy()
    twin = copy.deepcopy(model)
    config = OptimizerConfig.model_validate({"name": "muon", "weight_decay": 0.3, "muon_scale": scale})
    ours = Optimizer(model, config, Parallel())
    matrices = [p for layer in twin.layers for p in layer.parameters() if p.ndim == 2]  # pyright: ignore
    theirs = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.3, momentum=0.95, adjust_lr_fn=scale)
    start = [p.detach().clone() for p in matrices]
    for step in range(4):
        random_gradients(model, step)
        random_gradients(twin, step)
        ours.step(0.02)
        theirs.step()
    mine = [p for layer in model.layers for p in layer.parameters() if p.ndim == 2]  # pyright: ignore
    assert len(mine) == 4
    for p, q, before in zip(mine, matrices, start, strict=True):
        assert (p - q).abs().max() <= 1e-5 * q.abs().max()
        assert (q - before).abs().max() > 1e-3


def test_muon_leaves_embeddings_and_norms_to_adamw_at_its_own_rate(make_toy: Callable[..., nn.Module]) -> None:
    model = make_toy(tied=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, OptimizerConfig(name="muon", adamw_lr_scale=0.25, weight_decay=0.0), Parallel())
    random_gradients(model, 0)
    optimizer.step(0.04)
    for name, p in model.named_parameters():
        change = (p.detach() - before[name]).abs()
        if name in ("embedding.weight", "head.weight") or "norm" in name:
            # The first AdamW step moves each element by the learning rate.
            assert change.max().item() == pytest.approx(0.01, rel=1e-3), name
        else:
            rms = change.square().mean().sqrt().item()
            assert rms == pytest.approx(0.2 * 0.04, rel=0.25), name


def test_orthogonalize_brings_singular_values_near_one() -> None:
    x = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    for matrix in (x, x.mT):
        y = orthogonalize(matrix, 5)
        assert y.shape == matrix.shape
        values = torch.linalg.svdvals(y)
        assert values.min() > 0.6
        assert values.max() < 1.3
    # One stack of matrices is its members.
    alone = torch.cat([orthogonalize(m[None], 5) for m in x])
    assert (orthogonalize(x, 5) - alone).abs().max() < 1e-5
    assert torch.equal(orthogonalize(torch.zeros(1, 4, 4), 5), torch.zeros(1, 4, 4))


def test_muon_is_refused_where_it_cannot_work(make_toy: Callable[..., nn.Module]) -> None:
    config = OptimizerConfig(name="muon")
    with pytest.raises(UserError, match=r"optimizer\.name: muon needs whole matrices"):
        Optimizer(make_toy(), config, Parallel(rank=0, world_size=2))
    with pytest.raises(UserError, match="found no matrices"):
        Optimizer(nn.Linear(4, 4), config, Parallel())


def test_state_is_named_by_parameter(make_toy: Callable[..., nn.Module]) -> None:
    model = make_toy()
    names = [name for name, _ in model.named_parameters()]
    adamw = Optimizer(model, OptimizerConfig(), Parallel()).state_tensors()
    assert sorted(adamw) == sorted(f"{n}.{key}" for n in names for key in ("step", "exp_avg", "exp_avg_sq"))
    muon = Optimizer(model, OptimizerConfig(name="muon"), Parallel()).state_tensors()
    assert sorted(k for k in muon if k.endswith("momentum_buffer")) == sorted(
        f"layers.{i}.{m}.weight.momentum_buffer" for i in (0, 1) for m in ("up", "down")
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_on_the_device_is_a_step(make_toy: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    """The scale as a tensor against the scale as a number; an update that is not usable changes nothing."""
    models = [make_toy().to(dtype) for _ in range(2)]
    here, there = (Optimizer(model, OptimizerConfig(weight_decay=0.1), Parallel(), seed=3) for model in models)
    for step in range(3):
        for model in models:
            torch.manual_seed(step)
            for p in model.parameters():
                p.grad = torch.randn_like(p)
        here.step(1e-2, here.gradients(), 0.25)
        there.step_on_device(1e-2, there.gradients(), torch.tensor(0.25, dtype=torch.float64), torch.tensor(True))
        before = [x.clone() for x in [*models[1].parameters(), *there.state_tensors().values()]]
        for p in models[1].parameters():
            p.grad = torch.full_like(p, math.nan)
        there.step_on_device(1e-2, there.gradients(), torch.tensor(math.nan).double(), torch.tensor(False))
        there.undo_step(there.gradients())
        after = [*models[1].parameters(), *there.state_tensors().values()]
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    for (name, x), y in zip(here.state_tensors().items(), there.state_tensors().values(), strict=True):
        assert torch.allclose(x, y, rtol=1e-6, atol=0), name
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-6, atol=1e-8)
