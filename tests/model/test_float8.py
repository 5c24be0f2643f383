"""Linear layers in fp8: rounding, and products and gradients against plain PyTorch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thinkling.model import float8
from thinkling.model.config import Float8Recipe
from thinkling.model.float8 import E4M3, E5M2, RECIPES, Float8Linear, float8_linear, plain_product, scaled

NAMES = list(RECIPES)
REAL = float8.scaled_product


def tensors(dtype: torch.dtype, rows: int = 48) -> list[Tensor]:
    """x, weight, bias, and the gradient of the output."""
    generator = torch.Generator().manual_seed(rows)
    shapes = [(rows, 64), (32, 64), (32,), (rows, 32)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def results(dtype: torch.dtype, recipe: Float8Recipe | None, rows: int = 48) -> list[Tensor]:
    """The output, and the gradients of x, weight and bias."""
    *given, g = tensors(dtype, rows)
    x, weight, bias = (t.requires_grad_() for t in given)
    y = torch.nn.functional.linear(x, weight, bias) if recipe is None else float8_linear(x, weight, bias, recipe)
    return [y.detach(), *torch.autograd.grad(y, (x, weight, bias), g)]


def error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recipe", NAMES)
def test_torchs_scaled_product_equals_the_plain_one(
    recipe: Float8Recipe, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's kernel for CPUs: outputs and gradients, with the same operands."""
    plain = results(dtype, recipe)
    calls = []
    monkeypatch.setattr(float8, "_product", lambda *args, **kwargs: (calls.append(args), REAL(*args, **kwargs))[1])
    found = results(dtype, recipe)
    assert len(calls) == (3 if RECIPES[recipe].weight_gradient else 2)
    bound = 1e-5 if dtype == torch.float32 else 2**-8
    for one, wanted in zip(found, plain, strict=True):
        assert one.dtype == dtype
        assert error(one, wanted) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recipe", NAMES)
def test_errors_are_those_of_fp8(recipe: Float8Recipe, dtype: torch.dtype) -> None:
    """Rounding to 3 bits of significand has an error of about 2.6% of the norm, to 2 bits of about 5.2%, and errors of
    the operands of a product add up in squares."""
    y, g_x, g_weight, g_bias = (
        error(found, wanted) for found, wanted in zip(results(dtype, recipe), results(torch.float32, None), strict=True)
    )
    of_g = 0.052 if RECIPES[recipe].gradients == E5M2 else 0.026
    assert 0.02 < y < 1.2 * math.hypot(0.026, 0.026)
    assert 0.02 < g_x < 1.2 * math.hypot(of_g, 0.026)
    if RECIPES[recipe].weight_gradient:
        assert 0.02 < g_weight < 1.2 * math.hypot(of_g, 0.026)
    else:
        assert g_weight < 1e-2
    assert g_bias < 1e-2


@pytest.mark.parametrize("recipe", NAMES)
def test_gradients_of_weights_for_any_number_of_tokens(recipe: Float8Recipe) -> None:
    """The kernels sum over multiples of 16 tokens; other numbers are summed in the dtype of the computation."""
    found, wanted = results(torch.float32, recipe, rows=41), results(torch.float32, None, rows=41)
    assert error(found[2], wanted[2]) < 1e-6
    assert error(found[1], wanted[1]) > 1e-3


def test_only_gradients_that_are_needed_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(float8, "_product", lambda *args, **_: (calls.append(args), plain_product(*args))[1])
    x, weight, _, g = tensors(torch.float32)
    float8_linear(x.requires_grad_(), weight, None, "rowwise").backward(g)
    assert x.grad is not None
    assert weight.grad is None
    assert len(calls) == 2


@given(
    st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=4, max_size=4),
    st.sampled_from([E4M3, E5M2]),
)
def test_rounding_is_within_half_a_step_and_does_not_overflow(row: list[float], dtype: torch.dtype) -> None:
    """Numbers of any magnitude; elements far below the largest of a row round to subnormal numbers or to 0."""
    x = torch.tensor([row, [1.0] * 4])
    values, unit = scaled(x, dtype)
    assert unit.shape == (2, 1)
    assert torch.equal(torch.frexp(unit)[0], torch.full_like(unit, 0.5))  # powers of two
    found = values.float() * unit
    assert torch.isfinite(found).all()
    assert torch.equal(found[1], x[1])
    info = torch.finfo(dtype)
    relative = x.abs() * info.eps / 2
    absolute = unit * info.smallest_normal * info.eps / 2
    assert ((found - x).abs() <= torch.maximum(relative, absolute) * 1.0001).all()
    largest = x[0].abs().max()
    if largest > 1e-12:
        assert largest / unit[0] > info.max / 2.01  # the whole range is used


def test_one_scale_per_matrix() -> None:
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    values, unit = scaled(x, E4M3, x.abs().amax())
    assert unit.shape == ()
    transposed, same = scaled(x.t(), E4M3, x.abs().amax())
    assert torch.equal(unit, same)
    assert torch.equal(values.t().float(), transposed.float())


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("recipe", NAMES)
def test_what_is_not_finite_stays_so(recipe: Float8Recipe, bad: float) -> None:
    x, weight, *_ = tensors(torch.float32)
    x[3, 5] = bad
    y = float8_linear(x, weight, None, recipe)
    assert torch.isnan(y[3]).all()
    if RECIPES[recipe].rowwise:
        assert torch.isfinite(y[4]).all()


def test_an_outlier_costs_its_own_row_only_with_rowwise_scales() -> None:
    x, weight, *_ = tensors(torch.float32)
    x[3, 5] = 1e6
    wanted = x @ weight.t()
    others = [i for i in range(len(x)) if i != 3]
    errors = {
        name: error(float8_linear(x, weight, None, name)[others], wanted[others]) for name in ("tensorwise", "rowwise")
    }
    assert errors["rowwise"] < 0.05
    assert errors["tensorwise"] > 0.5


@pytest.mark.parametrize("shape", [(48, 64), (2, 24, 64), (64,)])
def test_inputs_of_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    base = torch.nn.Linear(64, 32)
    linear = Float8Linear(base, "rowwise")
    assert [name for name, _ in linear.named_parameters()] == ["weight", "bias"]
    assert linear.weight is base.weight
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = linear(x)
    assert y.shape == (*shape[:-1], 32)
    assert error(y, base(x)) < 0.06
