"""What is computed and kept in bf16, and models that do not move."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.optimizer import Optimizer
from thinkling.train.parallel import Parallel
from thinkling.train.precision import StochasticAdamW, computing, norm_of, random_bits, round_stochastically
from thinkling.train.trainer import Objective, Trainer

BF16 = PrecisionConfig(compute="bfloat16", weights="bfloat16")
MIXED = PrecisionConfig(compute="bfloat16")
Make = Callable[..., Any]


def noise(n: int, seed: int = 0) -> Tensor:
    return random_bits(n, torch.tensor(seed, dtype=torch.int32)) & 0xFFFF


def neighbours(bits: int) -> tuple[Tensor, Tensor]:
    """The two bf16 numbers, as fp32, around the finite fp32 number of these bits, without its sign; they are one where
    it is bf16 itself."""
    low = bits & 0x7FFF0000
    high = low if bits & 0xFFFF == 0 else low + 0x10000
    a, b = torch.tensor([low, high], dtype=torch.int32).view(torch.float32)
    return a, b


EDGES = [0x0, 0x1, 0xFFFF, 0x10000, 0x7F7F0000, 0x7F7FFFFF, 0x7F7F0001, 0x00800000, 0x007FFFFF, 0x3F800001]


@given(st.one_of(st.integers(0, 0x7F7FFFFF), st.sampled_from(EDGES)), st.booleans(), st.integers(-(2**31), 2**31 - 1))
def test_rounding_gives_one_of_the_two_neighbours(bits: int, negative: bool, seed: int) -> None:
    """Normal, subnormal and bf16 numbers, zeros and the largest, of both signs."""
    x = torch.tensor([bits] * 64, dtype=torch.int32).view(torch.float32)
    x = -x if negative else x
    found = round_stochastically(x, noise(len(x), seed))
    assert found.dtype == torch.bfloat16
    assert torch.equal(torch.signbit(found), torch.signbit(x))
    low, high = neighbours(bits)
    magnitude = found.float().abs()
    assert ((magnitude == low) | (magnitude == high)).all()
    again = round_stochastically(x, noise(len(x), seed))
    assert torch.equal(again, found)


@given(st.integers(0, 0x7F7E0000))
def test_rounding_is_unbiased(bits: int) -> None:
    """Of all values of the random bits, each equally likely, as many round up as the distance says: exactly."""
    x = torch.tensor([bits] * 65536, dtype=torch.int32).view(torch.float32)
    found = round_stochastically(x, torch.arange(65536, dtype=torch.int32)).float()
    low, high = neighbours(bits)
    if low == high:
        assert (found == low).all()
    else:
        assert int((found == high).sum()) == bits & 0xFFFF
        assert int((found == low).sum()) == 65536 - (bits & 0xFFFF)


def test_rounding_draws_bits_that_are_equally_likely() -> None:
    x = torch.full((200_000,), -1.0009765625)  # an eighth of the way from -1 to its neighbour
    found = round_stochastically(x, noise(len(x))).float()
    up = (found != -1.0).double().mean().item()
    assert abs(up - 0.125) < 5 * math.sqrt(0.125 * 0.875 / 200_000)
    assert found.double().mean().item() == pytest.approx(-1.0009765625, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1, -1, 123456789])
def test_all_32_random_bits_are_fair_and_independent(seed: int) -> None:
    """Means of all bits, and correlations between bits, between neighbours and with the next seed: within 5 sigma."""
    n = 1 << 18
    drawn = torch.stack([random_bits(n, torch.tensor(s, dtype=torch.int32)) for s in (seed, seed + 1)])
    assert drawn.dtype == torch.int32
    bits = torch.stack([(drawn >> i) & 1 for i in range(32)]).double() * 2 - 1  # (32, 2, n), ±1
    bound = 5.5 / math.sqrt(n)
    assert bits.mean(2).abs().max() < bound
    pairs = (bits[:, 0] @ bits[:, 0].T / n).fill_diagonal_(0)
    assert pairs.abs().max() < bound
    assert (bits[:, 0] @ bits[:, 1].T / n).abs().max() < bound
    assert (bits[:, 0, 1:] @ bits[:, 0, :-1].T / n).abs().max() < bound


def test_what_is_not_finite_stays() -> None:
    bits = [0x7F800000, -0x800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, -1]
    found = round_stochastically(torch.tensor(bits, dtype=torch.int32).view(torch.float32), noise(6))
    assert found[:2].tolist() == [math.inf, -math.inf]
    assert found[2:].isnan().all()


def test_updates_are_adamws_on_average() -> None:
    """Six updates of 20,000 copies of one parameter, against torch's AdamW in fp32."""
    n, start = 20_000, 0.5
    p, q = nn.Parameter(torch.full((n,), start, dtype=torch.bfloat16)), nn.Parameter(torch.tensor([start]))
    options: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8}
    ours = StochasticAdamW([{"params": [p], "weight_decay": 0.1}], seed=1, rank=0, **options)
    theirs = torch.optim.AdamW([q], lr=1e-4, weight_decay=0.1, **options)
    ours.param_groups[0]["lr"] = 1e-4
    for step in range(6):
        gradient = math.cos(step)
        ours.apply({p: torch.full((n,), gradient / 4)}, 4.0)
        q.grad = torch.tensor([gradient])
        theirs.step()
    assert p.dtype == torch.bfloat16
    assert (q - start).abs().item() > 1e-4
    moved = (p.detach().double().mean() - start).item()
    # One bf16 step at 0.5 is 2**-9 to 2**-8; the mean of n copies has that over the root of n as its deviation.
    assert moved == pytest.approx((q - start).item(), abs=5 * 2**-9 / math.sqrt(n))
    for key in ("exp_avg", "exp_avg_sq"):
        mine, wanted = ours.state[p][key], theirs.state[q][key].item()
        assert mine.dtype == torch.bfloat16
        assert mine.double().mean().item() == pytest.approx(wanted, rel=1e-3)


def test_random_numbers_depend_on_seed_rank_and_step() -> None:
    def weights(seed: int, rank: int, steps: int) -> Tensor:
        p = nn.Parameter(torch.ones(500, dtype=torch.bfloat16))
        optimizer = StochasticAdamW(
            [{"params": [p], "weight_decay": 0.0, "lr": 1e-3}], betas=(0.0, 0.0), eps=1.0, seed=seed, rank=rank
        )
        for _ in range(steps):
            optimizer.apply({p: torch.ones(500)}, 1.0)
        return p.detach()

    assert torch.equal(weights(0, 0, 2), weights(0, 0, 2))
    assert not torch.equal(weights(0, 0, 1), weights(1, 0, 1))
    assert not torch.equal(weights(0, 0, 1), weights(0, 1, 1))
    # The second step does not repeat the first one's choices.
    assert not torch.equal(weights(0, 0, 1) != 1, (weights(0, 0, 2) != weights(0, 0, 1)))


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_models_that_do_not_move(make_toy: Make, make_batch: Make, objective: Objective, compute: str) -> None:
    """At lr 1e-6 a bf16 model whose updates are rounded to the nearest stays where it is, but for the smallest weights.
    With stochastic rounding it moves, on average, as an fp32 model does."""
    start = make_toy(size=64).bfloat16().float()
    nearest = [p.detach().bfloat16() for p in start.parameters()]
    before = torch.cat([p.detach().flatten() for p in start.parameters()])
    for p in nearest:
        p.sub_(1e-6)  # what an update is, at most
    assert sum(int((p != q).sum()) for p, q in zip(nearest, start.parameters(), strict=True)) < 0.1 * len(before)

    def moved(precision: PrecisionConfig) -> Tensor:
        config = OptimizerConfig(weight_decay=0.0)
        trainer = Trainer(copy.deepcopy(start), config, objective, precision=precision, seed=1)
        for step in range(60):
            trainer.step([make_batch(step % 4)], 1e-6)
        after = torch.cat([p.detach().flatten().float() for p in trainer.model.parameters()])
        return after - before

    reference = moved(PrecisionConfig())
    assert (reference != 0).all()
    for weights, tolerance in (("float32", 0.05), ("bfloat16", 0.2)):
        found = moved(PrecisionConfig.model_validate({"compute": compute, "weights": weights}))
        ratio = (found @ reference / (reference @ reference)).item()
        assert ratio == pytest.approx(1.0, abs=tolerance), weights


def test_a_bf16_loss_and_its_gradient_are_near_fp32s(worker: ModuleType) -> None:
    """Fp32 parameters, of which copies are computed with: the gradient is fp32, too."""
    batch = worker.micro_batches(0, 8)[0]
    found: dict[torch.dtype, tuple[float, Tensor]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = worker.decoder(tied=False)
        with computing(model, dtype):
            assert model.output_weight.dtype == dtype
            loss, n, _ = worker.objective(model, batch)
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(isinstance(p, nn.Parameter) and p.dtype == torch.float32 for p in model.parameters())
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert {g.dtype for g in gradients} == {torch.float32}
        assert len(gradients) == len(list(model.parameters()))
        found[dtype] = loss.item() / n, torch.cat([g.flatten() for g in gradients])
    (exact, exact_gradient), (rounded, gradient) = found.values()
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=5e-3)
    assert nn.functional.cosine_similarity(gradient, exact_gradient, 0).item() > 0.999


def test_parameters_come_back_where_the_objective_fails(worker: ModuleType) -> None:
    model = worker.decoder()
    before = dict(model.named_parameters())

    def fail() -> None:
        with computing(model, torch.bfloat16):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_micro_batches_of_bf16_weights_are_summed_in_fp32(make_toy: Make) -> None:
    """A bf16 sum of 400 equal gradients stops at 256 times the first."""

    def objective(model: nn.Module, batch: Any) -> tuple[Tensor, int, dict[str, float | Tensor]]:
        return sum((p.float().sum() for p in model.parameters()), torch.zeros(())), 1, {}

    model = make_toy()
    elements = sum(p.numel() for p in model.parameters())
    trainer = Trainer(model, OptimizerConfig(clip_norm=None), objective, precision=BF16)
    assert trainer.step([None] * 400, 1e-3).grad_norm == pytest.approx(math.sqrt(elements), rel=1e-4)
    moments = trainer.optimizer.state_tensors()
    assert moments["norm.weight.exp_avg"].float().mean().item() == pytest.approx(0.1, rel=0.01)
    # One micro-batch needs no sum.
    assert trainer.step([None], 1e-3).grad_norm == pytest.approx(math.sqrt(elements), rel=1e-4)


def test_norms_of_bf16_gradients_are_fp32() -> None:
    parts = [torch.full((1000,), 1.0, dtype=torch.bfloat16), torch.full((29,), 1.0, dtype=torch.bfloat16)]
    assert norm_of(parts).item() == pytest.approx(math.sqrt(1029), rel=1e-6)


def test_state_of_bf16_weights_takes_six_bytes_per_parameter(make_toy: Make, objective: Objective) -> None:
    model = make_toy()
    elements = sum(p.numel() for p in model.parameters())
    for precision, size in ((PrecisionConfig(), 12), (MIXED, 12), (BF16, 6)):
        state = Trainer(copy.deepcopy(model), OptimizerConfig(), objective, precision=precision).state_tensors()
        kept = sum(x.nbytes for name, x in state.items() if not name.endswith(".step"))
        assert kept == size * elements


def test_muon_keeps_no_bf16_weights(make_toy: Make) -> None:
    with pytest.raises(UserError, match=r"muon needs weights in float32; set precision\.weights to float32"):
        Optimizer(make_toy().bfloat16(), OptimizerConfig(name="muon"), Parallel())


def test_state_of_another_dtype_is_refused(make_toy: Make, objective: Objective, tmp_path: Path) -> None:
    """It would be rounded in silence."""
    wide = Trainer(make_toy(), OptimizerConfig(), objective)
    narrow = Trainer(make_toy(), OptimizerConfig(), objective, precision=BF16)
    path = Checkpoints(tmp_path, 1).save(1, wide.state_tensors())
    with pytest.raises(
        UserError, match=r"is float32 in the checkpoint and bfloat16 in this run; set precision\.weights"
    ):
        Checkpoints(tmp_path, 1).load(path, narrow.state_tensors())
