"""Linear layers whose matrix products are computed in 8-bit floating point (fp8), which GPUs compute at about twice the
speed of bf16. The weights stay in their own dtype.

The operands of each product are scaled and rounded to fp8 right before it (dynamic scaling), and torch's scaled product
multiplies the scales back. The recipes have the names and settings of torchao's
(https://github.com/pytorch/ao/tree/main/torchao/float8):

- `tensorwise`: one scale per matrix. Activations and weights are e4m3 (3 bits of significand), gradients e5m2 (2 bits).
- `rowwise`: one scale per row of the left matrix and per column of the right matrix, so that an outlier costs the
  precision of its own row only. All operands are e4m3.
- `rowwise_with_gw_hp`: as `rowwise`, but the gradient of the weight is a product in the dtype of the computation. This
  is the most accurate recipe: a weight's gradient sums over all tokens, whose magnitudes differ most.

Unlike torchao's, all scales are powers of two, also those of `tensorwise`, and `rowwise_with_gw_hp` scales the weight
by rows in the backward pass too. Multiplying by a power of two does not round, so fp8 costs the rounding to its
significand and nothing else. As in torchao, only the forward product accumulates in the tensor core's faster mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thinkling.model.config import Float8Recipe

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""The kernels need inner sizes and numbers of columns that are multiples of this number."""
_SMALLEST = 1e-12
"""Magnitudes are scaled as if the largest one of a row were at least this number, so that scales are finite."""
_EXPONENT, _RECIPROCAL = 0x7F800000, 254 << 23
"""The bits of an fp32 number's exponent, and the sum of these bits of a power of two and of its reciprocal."""


class Recipe(NamedTuple):
    rowwise: bool
    gradients: torch.dtype
    weight_gradient: bool
    """Whether the gradient of the weight is a product of fp8 numbers too."""


RECIPES: Mapping[Float8Recipe, Recipe] = {
    "tensorwise": Recipe(False, E5M2, True),
    "rowwise": Recipe(True, E4M3, True),
    "rowwise_with_gw_hp": Recipe(True, E4M3, False),
}


class Scaled(NamedTuple):
    """A matrix in fp8: values × unit, where `unit` is (rows, 1) or a scalar, in fp32."""

    values: Tensor
    unit: Tensor


def scaled(x: Tensor, dtype: torch.dtype, largest: Tensor | None = None) -> Scaled:
    """Rounds a matrix to fp8, with the largest powers of two as scales with which nothing overflows. `largest`: the
    magnitude of the largest element, for a single scale. By default, every row has its own scale."""
    largest = x.abs().amax(-1, keepdim=True) if largest is None else largest
    scale = torch.finfo(dtype).max / largest.float().clamp(min=_SMALLEST)
    # The exponent of an fp32 number is the largest power of two that does not exceed it. The exponents of a power of
    # two and of its reciprocal, with their bias, add up to 254.
    exponent = scale.view(torch.int32) & _EXPONENT
    values = (x.float() * exponent.view(torch.float32)).to(dtype)
    return Scaled(values.contiguous(), (_RECIPROCAL - exponent).view(torch.float32))


def scaled_product(a: Scaled, b: Scaled, dtype: torch.dtype, fast: bool = False) -> Tensor:
    """Returns a bᵀ with torch's scaled product. `fast`: whether the tensor cores may accumulate with fewer bits."""
    kind = F.ScalingType.RowWise if a.unit.ndim == 2 else F.ScalingType.TensorWise
    unit_of_columns = b.unit.t() if b.unit.ndim == 2 else b.unit
    return F.scaled_mm(
        a.values, b.values.t(), a.unit, kind, unit_of_columns, kind, output_dtype=dtype, use_fast_accum=fast
    )


def plain_product(a: Scaled, b: Scaled, dtype: torch.dtype) -> Tensor:
    """Returns a bᵀ in fp32, rounded to `dtype`: the reference of `scaled_product`, used on a CPU."""
    return ((a.values.float() * a.unit) @ (b.values.float() * b.unit).t()).to(dtype)


def _product(a: Scaled, b: Scaled, dtype: torch.dtype, fast: bool = False) -> Tensor:
    return scaled_product(a, b, dtype, fast) if a.values.is_cuda else plain_product(a, b, dtype)


class Float8Product(torch.autograd.Function):
    """x wᵀ with fp8 operands, also in the backward pass, in which they are rounded again from x and w."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_OD: Tensor, name: Float8Recipe) -> Tensor:
        x_max, weight_max = (None if RECIPES[name].rowwise else x.abs().amax() for x in (x_ND, weight_OD))
        ctx.save_for_backward(x_ND, weight_OD, x_max, weight_max)
        ctx.name = name
        return _product(scaled(x_ND, E4M3, x_max), scaled(weight_OD, E4M3, weight_max), x_ND.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_NO,) = grads
        x_ND, weight_OD, x_max, weight_max = ctx.saved_tensors
        recipe = RECIPES[ctx.name]
        g_max = None if recipe.rowwise else g_NO.abs().amax()
        g_x_ND = g_weight_OD = None
        if ctx.needs_input_grad[0]:
            g, weight = scaled(g_NO, recipe.gradients, g_max), scaled(weight_OD.t(), E4M3, weight_max)
            g_x_ND = _product(g, weight, x_ND.dtype)
        if ctx.needs_input_grad[1]:
            if recipe.weight_gradient and len(x_ND) % MULTIPLE == 0:
                g, x = scaled(g_NO.t(), recipe.gradients, g_max), scaled(x_ND.t(), E4M3, x_max)
                g_weight_OD = _product(g, x, weight_OD.dtype)
            else:
                g_weight_OD = g_NO.t() @ x_ND
        return g_x_ND, g_weight_OD, None


def float8_linear(x: Tensor, weight_OD: Tensor, bias_O: Tensor | None, name: Float8Recipe) -> Tensor:
    """`torch.nn.functional.linear` with products in fp8. The bias is added in the dtype of x."""
    y: Any = Float8Product.apply(x.reshape(-1, x.shape[-1]), weight_OD, name)
    y = y.view(*x.shape[:-1], len(weight_OD))
    return y if bias_O is None else y + bias_O


class Float8Linear(nn.Linear):
    """A linear layer with products in fp8. Its parameters are those of `base`, and have the same names."""

    def __init__(self, base: nn.Linear, recipe: Float8Recipe) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.recipe: Float8Recipe = recipe

    def forward(self, input: Tensor) -> Tensor:
        return float8_linear(input, self.weight, self.bias, self.recipe)
