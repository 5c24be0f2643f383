"""The two halves of a decoder layer with their backwards written out, for training on a CPU.

There a tiny model spends as long in elementwise passes, copies and allocations as in products. So: one product for
queries, keys and values and one for gate and up; the norm's weight scales the projection's few columns rather than all
tokens, which also makes its gradient a by-product; the residual is added inside the last product; the rotary embedding
writes straight into the layout that attention reads. The plain modules in decoder.py compute the same and serve the GPU.

Shapes: N tokens, D hidden, H query heads, K key/value heads, X = H + 2K, C head dim, F ffn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinkling.model.attention_cpu import Plan, attend, attend_backward


def normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x over its root mean square along the last dimension, and the factor, (…, 1)."""
    mean_square = torch.linalg.vecdot(x, x).div_(x.shape[-1]).unsqueeze(-1)
    factor = mean_square.add_(eps).rsqrt_()
    return x * factor, factor


def normalise_backward(grad: Tensor, unit: Tensor, factor: Tensor) -> Tensor:
    """Gradient of `normalise`'s input from that of its first output `unit`; overwrites `grad` and returns it."""
    mean = torch.linalg.vecdot(grad, unit).div_(grad.shape[-1]).unsqueeze(-1)
    return grad.addcmul_(unit, mean, value=-1).mul_(factor)


class RMSNormFunction(torch.autograd.Function):
    """x / rms(x) × weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        unit, factor = normalise(x, eps)
        ctx.save_for_backward(unit, factor, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        unit, factor, weight = ctx.saved_tensors
        d_weight = torch.linalg.vecdot(grad, unit, dim=0) if grad.ndim == 2 else (grad * unit).sum_to_size(weight.shape)
        return normalise_backward(grad * weight, unit, factor), d_weight, None


def _rotate_into(out_XNC: Tensor, x_XNC: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> None:
    """Turns the pairs (i, i + C/2) by their position's angles, or back; `cos`, `sin` (N, C/2)."""
    sign = -1.0 if back else 1.0
    (a, b), (out_a, out_b) = x_XNC.chunk(2, -1), out_XNC.chunk(2, -1)
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin, value=sign)


class AttentionHalf(torch.autograd.Function):
    """x + o_proj(attention(rotary(q, k), v)) with q, k, v = projections of RMSNorm(x); Qwen3 norms q and k a head."""

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
        cos: Tensor,
        sin: Tensor,
        head_dim: int,
        eps: float,
        plan: Plan,
    ) -> Tensor:
        heads, turned = w_q.shape[0] // head_dim, (w_q.shape[0] + w_k.shape[0]) // head_dim
        unit, factor = normalise(x_ND, eps)
        weight = torch.cat((w_q, w_k, w_v)).mul_(norm)
        scale = head_dim**-0.5
        head_norm: list[Tensor] = []
        if q_norm is None or k_norm is None:
            weight[: w_q.shape[0]].mul_(scale)
        raw_XNC = (unit @ weight.t()).unflatten(1, (-1, head_dim)).transpose(0, 1)
        qkv_XNC = torch.empty(raw_XNC.shape, dtype=x_ND.dtype)
        qkv_XNC[turned:].copy_(raw_XNC[turned:])
        qk = raw_XNC[:turned]
        if q_norm is not None and k_norm is not None:
            head_unit, head_factor = normalise(qk, eps)
            head_scale = torch.stack((q_norm * scale, k_norm)).repeat_interleave(torch.tensor((heads, turned - heads)), 0)
            qk = head_unit * head_scale.unsqueeze(1)
            head_norm = [head_unit, head_factor, head_scale]
        _rotate_into(qkv_XNC[:turned], qk, cos, sin)
        o_HNC, saved = attend(qkv_XNC, heads, plan)
        o_NE = o_HNC.transpose(0, 1).flatten(1)
        ctx.save_for_backward(unit, factor, norm, w_q, w_k, w_v, w_o, cos, sin, weight, qkv_XNC, o_NE, *head_norm, *saved)
        ctx.plan, ctx.head_dim, ctx.scale, ctx.qk_norm = plan, head_dim, scale, bool(head_norm)
        return torch.addmm(x_ND, o_NE, w_o.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy_ND,) = grads
        unit, factor, norm, w_q, w_k, w_v, w_o, cos, sin, weight, qkv_XNC, o_NE, *rest = ctx.saved_tensors
        head_norm, saved = (rest[:3], rest[3:]) if ctx.qk_norm else ([], rest)
        channels = ctx.head_dim
        heads, turned = w_q.shape[0] // channels, (w_q.shape[0] + w_k.shape[0]) // channels
        d_o = dy_ND.t() @ o_NE
        do_HNC = (dy_ND @ w_o).unflatten(1, (heads, channels)).transpose(0, 1).contiguous()
        dqkv_XNC = attend_backward(do_HNC, qkv_XNC, saved, ctx.plan)
        draw_NXC = torch.empty(dqkv_XNC.shape[1], dqkv_XNC.shape[0], channels, dtype=dy_ND.dtype)
        draw_XNC = draw_NXC.transpose(0, 1)
        draw_XNC[turned:].copy_(dqkv_XNC[turned:])
        _rotate_into(draw_XNC[:turned], dqkv_XNC[:turned], cos, sin, back=True)
        dq_norm = dk_norm = None
        if ctx.qk_norm:
            head_unit, head_factor, head_scale = head_norm
            d_scaled = draw_XNC[:turned]
            per_head = (d_scaled * head_unit).sum(1)
            dq_norm, dk_norm = per_head[:heads].sum(0).mul_(ctx.scale), per_head[heads:].sum(0)
            d_scaled.copy_(normalise_backward(d_scaled * head_scale.unsqueeze(1), head_unit, head_factor))
        draw_NE = draw_NXC.flatten(1)
        d_weight = draw_NE.t() @ unit
        dx = normalise_backward(draw_NE @ weight, unit, factor).add_(dy_ND)
        if not ctx.qk_norm:
            d_weight[: w_q.shape[0]].mul_(ctx.scale)
        d_norm = torch.linalg.vecdot(d_weight, torch.cat((w_q, w_k, w_v)), dim=0)
        dq, dk, dv = d_weight.mul_(norm).split((w_q.shape[0], w_k.shape[0], w_v.shape[0]))
        return dx, d_norm, dq, dk, dv, d_o, dq_norm, dk_norm, None, None, None, None, None


class MLPHalf(torch.autograd.Function):
    """x + down_proj(silu(gate_proj(h)) × up_proj(h)) with h = RMSNorm(x)."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, norm: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor, eps: float
    ) -> Tensor:
        unit, factor = normalise(x_ND, eps)
        weight = torch.cat((w_gate, w_up)).mul_(norm)
        gate_up = unit @ weight.t()
        gate, up = gate_up.chunk(2, -1)
        sigmoid = torch.sigmoid(gate)
        hidden = (gate * sigmoid).mul_(up)
        ctx.save_for_backward(unit, factor, norm, w_gate, w_up, w_down, weight, gate_up, sigmoid, hidden)
        return torch.addmm(x_ND, hidden, w_down.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy_ND,) = grads
        unit, factor, norm, w_gate, w_up, w_down, weight, gate_up, sigmoid, hidden = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        d_down = dy_ND.t() @ hidden
        d_hidden = dy_ND @ w_down
        d_gate_up = torch.empty_like(gate_up)
        d_gate, d_up = d_gate_up.chunk(2, -1)
        # d silu(g)·u = σ(g)·(u + g·u·(1 − σ(g))) = σ(g)·(u − h) + h
        torch.sub(up, hidden, out=d_gate).mul_(sigmoid).add_(hidden).mul_(d_hidden)
        torch.mul(gate, sigmoid, out=d_up).mul_(d_hidden)
        d_weight = d_gate_up.t() @ unit
        dx = normalise_backward(d_gate_up @ weight, unit, factor).add_(dy_ND)
        d_norm = torch.linalg.vecdot(d_weight, torch.cat((w_gate, w_up)), dim=0)
        d_gate_weight, d_up_weight = d_weight.mul_(norm).chunk(2)
        return dx, d_norm, d_gate_weight, d_up_weight, d_down, None
