"""Losses over hidden states that never hold the logits of all tokens.

Shapes: N tokens, D hidden, V vocab, M tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinkling.labels import IGNORE

CHUNK_LOGITS = 2**22
"""Logits of a chunk unless told: 16 MB in fp32."""


def chunked_cross_entropy(x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, chunk: int | None = None) -> Tensor:
    """Sum over tokens of -log softmax(x · weightᵀ)[label] as an fp32 scalar (fp64 for fp64 input).

    Labels are int64; tokens labelled -100 neither count nor cost. Both gradients are formed chunk by chunk of `chunk`
    tokens in the forward pass, so that no logits are kept or computed twice; the head's gradient is summed in fp32.
    """
    return _CrossEntropy.apply(x_ND, weight_VD, labels_N, chunk)


def chunked_log_probs(
    x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, temperature: float = 1.0, chunk: int | None = None
) -> Tensor:
    """log softmax(x · weightᵀ / temperature)[label], fp32 (N), 0 where the label is -100.

    Differentiable in x and weight: the backward computes each chunk's logits anew.
    """
    return _LogProbs.apply(x_ND, weight_VD, labels_N, temperature, chunk)


def _chunk(chunk: int | None, vocab: int) -> int:
    return chunk or max(64, CHUNK_LOGITS // vocab)


def _accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _exponentials(logits_MV: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrites logits by exp(logit - max); gives their sum (M, 1) and the row maximum (M, 1)."""
    top = logits_MV.amax(-1, keepdim=True)
    return logits_MV.sub_(top).exp_().sum(-1, keepdim=True), top


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, chunk: int | None) -> Tensor:
        need_x, need_weight = ctx.needs_input_grad[:2]
        dtype = _accumulator_dtype(x_ND.dtype)
        kept = (labels_N != IGNORE).nonzero().flatten()
        everything = len(kept) == len(labels_N)
        total = x_ND.new_zeros((), dtype=dtype)
        dx_ND = torch.zeros_like(x_ND) if need_x else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=dtype) if need_weight else None
        for indices in kept.split(_chunk(chunk, weight_VD.shape[0])):
            x = x_ND[int(indices[0]) : int(indices[0]) + len(indices)] if everything else x_ND.index_select(0, indices)
            labels = labels_N[indices].unsqueeze(-1)
            logits = (x @ weight_VD.t()).to(dtype)
            picked = logits.gather(-1, labels)
            sums, top = _exponentials(logits)
            total += (sums.log() + top - picked).sum()
            if not (need_x or need_weight):
                continue
            grad = logits.div_(sums)
            grad.scatter_add_(-1, labels, torch.full_like(picked, -1.0))
            grad = grad.to(x_ND.dtype)
            if dx_ND is not None:
                dx_ND.index_copy_(0, indices, grad @ weight_VD)
            if d_weight_VD is not None:
                if dtype == x_ND.dtype:
                    d_weight_VD.addmm_(grad.t(), x)
                else:
                    d_weight_VD += grad.t() @ x
        ctx.save_for_backward(dx_ND, d_weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grads
        dx_ND, d_weight_VD = ctx.saved_tensors
        if dx_ND is not None:
            dx_ND = dx_ND * scale.to(dx_ND.dtype)
        if d_weight_VD is not None:
            d_weight_VD = (d_weight_VD * scale).to(ctx.weight_dtype)
        return dx_ND, d_weight_VD, None, None


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, temperature: float, chunk: int | None
    ) -> Tensor:
        dtype = _accumulator_dtype(x_ND.dtype)
        kept = (labels_N != IGNORE).nonzero().flatten()
        found = x_ND.new_zeros(len(labels_N), dtype=dtype)
        log_sums = x_ND.new_zeros(len(labels_N), dtype=dtype)
        for indices in kept.split(_chunk(chunk, weight_VD.shape[0])):
            logits = (x_ND[indices] @ weight_VD.t()).to(dtype).div_(temperature)
            picked = logits.gather(-1, labels_N[indices].unsqueeze(-1))
            sums, top = _exponentials(logits)
            log_sum = sums.log_().add_(top)
            found[indices] = (picked - log_sum).squeeze(-1)
            log_sums[indices] = log_sum.squeeze(-1)
        ctx.save_for_backward(x_ND, weight_VD, labels_N, kept, log_sums)
        ctx.temperature, ctx.chunk = temperature, chunk
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_N,) = grads
        x_ND, weight_VD, labels_N, kept, log_sums = ctx.saved_tensors
        dtype = _accumulator_dtype(x_ND.dtype)
        dx_ND, d_weight_VD = torch.zeros_like(x_ND), torch.zeros_like(weight_VD, dtype=dtype)
        for indices in kept.split(_chunk(ctx.chunk, weight_VD.shape[0])):
            x = x_ND[indices]
            logits = (x @ weight_VD.t()).to(dtype).div_(ctx.temperature)
            grad = logits.sub_(log_sums[indices].unsqueeze(-1)).exp_().neg_()
            labels = labels_N[indices].unsqueeze(-1)
            grad.scatter_add_(-1, labels, torch.ones_like(labels, dtype=dtype))
            grad = grad.mul_((grad_N[indices] / ctx.temperature).unsqueeze(-1)).to(x_ND.dtype)
            dx_ND[indices] = grad @ weight_VD
            d_weight_VD += grad.t() @ x
        return dx_ND, d_weight_VD.to(weight_VD.dtype), None, None, None
