"""The two halves of a decoder layer (attention and MLP) with hand-written backward passes, for training on a CPU.

On a CPU, a tiny model spends as much time in elementwise passes, copies and dispatch as in matrix products. Therefore
one product computes queries, keys and values, and one product computes gate and up; the norm's weight scales the rows
of the projection rather than all tokens; the residual is added inside the last product; and the rotary embedding is one
complex multiplication that writes directly into the layout of attention. The plain modules in decoder.py compute the
same values and are used on the GPU.

RMSNorm is written as x / √(mean(x²) + ε) · w = u · w·√D with u = x / d and d = √(Σx² + D·ε). This form needs one hypot
per token, and its gradient is ∂x = (g - u·(u·g)) / d.

Shapes: N tokens, D hidden, H query heads, K key/value heads, X = H + 2K, C head dim, F ffn, E = X·C.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinkling.model.attention_cpu import Plan, attend, attend_backward
from thinkling.model.config import ModelConfig
from thinkling.model.rotary import Rotary

_FEATURES = frozenset(
    {"head_norms", "fused_projections", "layer_kinds", "embedding_scale", "logit_scale", "logit_softcap", "rotary"}
)
"""Features from families/base.py that the hand-written halves support, or that do not affect a layer. Documents longer
than a layer's window use the plain modules."""


def supports(config: ModelConfig) -> bool:
    """Whether the hand-written halves can compute this decoder's layers. If not, the plain modules are also used on the
    CPU."""
    return config.features.used() <= _FEATURES


@cache
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns u and d (…, 1) of the module docstring, along the last dimension."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    d = torch.hypot(length, _constant(math.sqrt(x.shape[-1] * eps), x.dtype))
    return x / d, d


class RMSNormFunction(torch.autograd.Function):
    """Computes x / √(mean(x²) + eps) × weight over the last of two dimensions."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight: Tensor, eps: float) -> Tensor:
        u, d = _unit(x_ND, eps)
        gain = weight * math.sqrt(len(weight))
        ctx.save_for_backward(u, d, gain)
        return u * gain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_ND,) = grads
        u, d, gain = ctx.saved_tensors
        along = grad_ND * u
        g = (grad_ND * gain).addcmul_(u, torch.mv(along, gain).unsqueeze(-1), value=-1)
        return g.div_(d), along.sum(0).mul_(math.sqrt(len(gain))), None


def _projection_backward(
    dy_NE: Tensor, weight_ED: Tensor, u_ND: Tensor, d: Tensor, gain: Tensor, residual_ND: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x, norm and weight for y = RMSNorm(x) @ weightᵀ. `residual_ND` is added to the gradient
    of x."""
    g = dy_NE @ weight_ED
    along = g * u_ND
    d_norm = along.sum(0).mul_(math.sqrt(len(gain)))
    g.mul_(gain).addcmul_(u_ND, torch.mv(along, gain).unsqueeze(-1), value=-1)
    return torch.addcdiv(residual_ND, g, d), d_norm, torch.mm(dy_NE.t(), u_ND).mul_(gain)


@cache
def _pairs(channels: int, turned: int, rows: int) -> tuple[Tensor, Tensor]:
    """Returns the order of a projection's rows in which channel i + C/2 follows channel i in each of the first `turned`
    heads, and the inverse order.

    In this order, a rotation is a complex product. Attention is unaffected, because queries and keys share the order.
    """
    order = torch.arange(turned * channels).view(turned, 2, channels // 2).transpose(1, 2).flatten()
    order = torch.cat((order, torch.arange(turned * channels, rows)))
    return order, order.argsort()


def _turn(x_XNC: Tensor, turns_NC: Tensor, out_XNC: Tensor) -> None:
    """Multiplies pairs of channels as complex numbers."""
    x, out = (torch.view_as_complex(y.unflatten(2, (-1, 2))) for y in (x_XNC, out_XNC))
    torch.mul(x, turns_NC, out=out)


class AttentionHalf(torch.autograd.Function):
    """Computes x + o_proj(attention(rotary(q, k), v)) with projections q, k and v of RMSNorm(x). q_norm and k_norm are
    per head."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        norm: Tensor,
        w_q: Tensor,
        w_k: Tensor,
        w_v: Tensor,
        w_o: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        head_dim: int,
        eps: float,
        rotary: Rotary,
        plan: Plan,
    ) -> Tensor:
        heads, kv_heads, scale = len(w_q) // head_dim, len(w_k) // head_dim, head_dim**-0.5
        turned, rows = heads + kv_heads, len(w_q) + 2 * len(w_k)
        u, d = _unit(x_ND, eps)
        gain = norm * math.sqrt(len(norm))
        order, _ = _pairs(head_dim, turned, rows)
        weight = torch.cat((w_q, w_k, w_v)).index_select(0, order)
        if q_norm is None:
            weight[: len(w_q)].mul_(scale)
        raw_XNC = torch.mm(u, (weight * gain).t()).view(-1, turned + kv_heads, head_dim).transpose(0, 1)
        qk = raw_XNC[:turned]
        head_norm: list[Tensor] = []
        if q_norm is not None and k_norm is not None:
            gains = [(q_norm * scale).expand(heads, -1), k_norm.expand(kv_heads, -1)]
            head_gain = torch.cat(gains).mul_(math.sqrt(head_dim))[:, _pairs(head_dim, 1, head_dim)[0]].unsqueeze(1)
            head_u, head_d = _unit(qk, eps)
            head_norm = [head_u, head_d, head_gain]
            qk = head_u * head_gain
        qkv_XNC = x_ND.new_empty(raw_XNC.shape)
        _turn(qk, rotary.turns_NC, qkv_XNC[:turned])
        qkv_XNC[turned:].copy_(raw_XNC[turned:])
        o_HNC, saved = attend(qkv_XNC, heads, plan)
        o_NE = o_HNC.transpose(0, 1).reshape(len(x_ND), -1)
        ctx.save_for_backward(u, d, gain, weight, w_o, qkv_XNC, o_NE, *head_norm, *saved)
        ctx.sizes = (heads, kv_heads, head_dim, bool(head_norm))
        ctx.rotary, ctx.plan = rotary, plan
        return torch.addmm(x_ND, o_NE, w_o.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy_ND,) = grads
        heads, kv_heads, channels, qk_norm = ctx.sizes
        turned, tokens, scale = heads + kv_heads, len(dy_ND), channels**-0.5
        u, d, gain, weight, w_o, qkv_XNC, o_NE, *saved = ctx.saved_tensors
        d_w_o = torch.mm(dy_ND.t(), o_NE)
        do_HNC = torch.mm(dy_ND, w_o).view(tokens, heads, channels).transpose(0, 1).contiguous()
        dqkv_XNC = attend_backward(do_HNC, qkv_XNC, saved[3:] if qk_norm else saved, ctx.plan)
        d_raw_NXC = dy_ND.new_empty(tokens, turned + kv_heads, channels)
        d_raw_XNC = d_raw_NXC.transpose(0, 1)
        d_raw_XNC[turned:].copy_(dqkv_XNC[turned:])
        d_qk = d_raw_XNC[:turned]
        _turn(dqkv_XNC[:turned], ctx.rotary.turns_back_NC, d_qk)
        d_q_norm = d_k_norm = None
        if qk_norm:
            head_u, head_d, head_gain = saved[:3]
            along = d_qk * head_u
            _, back = _pairs(channels, 1, channels)
            per_head = along.sum(1).mul_(math.sqrt(channels))[:, back]
            d_q_norm, d_k_norm = per_head[:heads].sum(0).mul_(scale), per_head[heads:].sum(0)
            reach = torch.mul(along, head_gain).sum(-1, keepdim=True)
            torch.mul(d_qk, head_gain, out=d_qk).addcmul_(head_u, reach, value=-1).div_(head_d)
        dx, d_norm, d_weight = _projection_backward(d_raw_NXC.view(tokens, -1), weight, u, d, gain, dy_ND)
        if not qk_norm:
            d_weight[: heads * channels].mul_(scale)
        _, back = _pairs(channels, turned, len(weight))
        sizes = (heads * channels, kv_heads * channels, kv_heads * channels)
        d_w_q, d_w_k, d_w_v = d_weight.index_select(0, back).split(sizes)
        return dx, d_norm, d_w_q, d_w_k, d_w_v, d_w_o, d_q_norm, d_k_norm, None, None, None, None


class MLPHalf(torch.autograd.Function):
    """Computes x + down_proj(silu(gate_proj(h)) × up_proj(h)) with h = RMSNorm(x)."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, norm: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor, eps: float
    ) -> Tensor:
        u, d = _unit(x_ND, eps)
        gain = norm * math.sqrt(len(norm))
        weight = torch.cat((w_gate, w_up))
        gate_up = torch.mm(u, (weight * gain).t())
        gate, up = gate_up.chunk(2, -1)
        sigmoid = torch.sigmoid(gate)
        hidden = (gate * sigmoid).mul_(up)
        ctx.save_for_backward(u, d, gain, weight, w_down, gate_up, sigmoid, hidden)
        return torch.addmm(x_ND, hidden, w_down.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy_ND,) = grads
        u, d, gain, weight, w_down, gate_up, sigmoid, hidden = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        d_w_down = torch.mm(dy_ND.t(), hidden)
        d_hidden = torch.mm(dy_ND, w_down)
        d_gate_up = torch.empty_like(gate_up)
        d_gate, d_up = d_gate_up.chunk(2, -1)
        # With s = σ(g) and h = g·s·u: ∂h/∂g = s·u + g·u·s·(1 - s) = s·(u - h) + h.
        torch.sub(up, hidden, out=d_gate).mul_(sigmoid).add_(hidden).mul_(d_hidden)
        torch.mul(gate, sigmoid, out=d_up).mul_(d_hidden)
        dx, d_norm, d_weight = _projection_backward(d_gate_up, weight, u, d, gain, dy_ND)
        d_w_gate, d_w_up = d_weight.chunk(2)
        return dx, d_norm, d_w_gate, d_w_up, d_w_down, None
