"""Losses on hidden states that never materialize the logits of all tokens.

Shapes: N tokens, D hidden, V vocab, M tokens per chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinkling.errors import UserError
from thinkling.labels import IGNORE
from thinkling.model.attention import soft_capped

CHUNK_LOGITS = 2**22
"""Default number of logits per chunk: 16 MB in fp32."""


@dataclass(frozen=True, eq=False)
class CappedHead:
    """The weight of a head whose logits have a soft cap (`Features.logit_softcap`). The losses in this module accept a
    CappedHead in place of a weight. A loss from elsewhere would ignore the cap, so `t`, which it calls to transpose the
    weight, raises an error."""

    weight_VD: Tensor
    cap: float

    def __len__(self) -> int:
        return len(self.weight_VD)

    def __getitem__(self, rows: slice | list[int]) -> CappedHead:
        return CappedHead(self.weight_VD[rows], self.cap)

    def t(self) -> NoReturn:
        """Raises UserError, because a loss that transposes the weight itself ignores the soft cap."""
        raise UserError(
            "final_logit_softcapping: the logits of this model have a soft cap, which losses that compare the logits "
            "of two models do not support; set the weights of these losses to 0 (kl_chosen, kl_rejected and kl_solved "
            "of a dpd stage), or choose a model without a soft cap"
        )


CUDA_CHUNK_LOGITS = 700_000_000
"""Number of logits per chunk on a GPU, where small matrix products are slow: 1.4 GB in bf16."""


def even_chunks(x: Tensor, size: int) -> Sequence[Tensor]:
    """Splits x along its first dimension into equal parts of at most `size` rows; the last part may have fewer rows."""
    n_chunks = max(1, -(-len(x) // size))
    return x.split(max(1, -(-len(x) // n_chunks)))


def loss_and_gradient(
    logits_MV: Tensor, labels_M: Tensor, z_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the sum of the losses (fp32), its gradient with respect to the logits, in their dtype, and the sum of the
    z-losses, which is part of the first sum. `z_weight`: weight of log² Z (fp32 scalar), or None."""
    logits = logits_MV.float()
    exponentials = (logits - logits.amax(-1, keepdim=True)).exp()
    sums = exponentials.sum(-1, keepdim=True)
    labels = labels_M.unsqueeze(-1)
    picked = logits_MV.gather(-1, labels).float()
    is_label = torch.arange(logits.shape[1], device=logits.device) == labels
    if z_weight is None:
        loss = (sums.log() + logits.amax(-1, keepdim=True) - picked).sum()
        return loss, (exponentials / sums - is_label.float()).to(logits_MV.dtype), None
    log_z = sums.log() + logits.amax(-1, keepdim=True)
    z_loss = z_weight * log_z.square().sum()
    gradient = exponentials / sums * (1 + 2 * z_weight * log_z) - is_label.float()
    return (log_z - picked).sum() + z_loss, gradient.to(logits_MV.dtype), z_loss


@cache
def _compiled() -> Any:
    return torch.compile(loss_and_gradient)


def _parts(weight_VD: Tensor | CappedHead) -> tuple[Tensor, float | None]:
    return (weight_VD.weight_VD, weight_VD.cap) if isinstance(weight_VD, CappedHead) else (weight_VD, None)


def chunked_cross_entropy(
    x_ND: Tensor,
    weight_VD: Tensor | CappedHead,
    labels_N: Tensor,
    chunk: int | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """Returns the sum over tokens of -log softmax(x · weightᵀ)[label] as an fp32 scalar (fp64 for fp64 input).

    Labels are int64; tokens with label -100 are skipped. The gradients of x and weight are computed in the forward
    pass, `chunk` tokens at a time, so that logits are neither stored nor computed twice. The weight's gradient is
    accumulated in fp32. `kept`: indices (int64) of the tokens that are not skipped. If it is None, the indices are
    found here, for which the host waits until a GPU has computed the labels.
    """
    weight_VD, cap = _parts(weight_VD)
    loss, _ = _CrossEntropy.apply(x_ND, weight_VD, labels_N, kept, _Options(chunk, cap))
    return loss


def chunked_cross_entropy_and_z_loss(
    x_ND: Tensor,
    weight_VD: Tensor | CappedHead,
    labels_N: Tensor,
    z_weight: float,
    chunk: int | None = None,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns `chunked_cross_entropy` plus the z-loss, and the z-loss alone (without a gradient).

    The z-loss is the sum over tokens of z_weight · log² Z, where Z is the sum of exp(logit) over the vocabulary
    (PaLM, arXiv 2204.02311). It is computed from the same logits, with the soft cap of the head if there is one.
    """
    weight_VD, cap = _parts(weight_VD)
    return _CrossEntropy.apply(x_ND, weight_VD, labels_N, kept, _Options(chunk, cap, z_weight))


@dataclass(frozen=True)
class _Options:
    """Settings of a cross-entropy: tokens per chunk, soft cap of the logits, and weight of the z-loss."""

    chunk: int | None
    cap: float | None
    z_weight: float = 0.0


def chunked_log_probs(
    x_ND: Tensor,
    weight_VD: Tensor | CappedHead,
    labels_N: Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Returns log softmax(x · weightᵀ / temperature)[label], fp32 (N), or 0 if the label is -100.

    The result is differentiable in x and weight; the backward pass recomputes each chunk's logits.
    """
    weight_VD, cap = _parts(weight_VD)
    return _LogProbs.apply(x_ND, weight_VD, labels_N, temperature, chunk, cap)


def _chunk(chunk: int | None, weight_VD: Tensor) -> int:
    return chunk or max(64, (2**27 if weight_VD.is_cuda else CHUNK_LOGITS) // len(weight_VD))


def _accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _slope(logits_MV: Tensor, cap: float) -> Tensor:
    """Returns the derivative of the capped logits with respect to the raw logits."""
    return 1 - (logits_MV / cap).square_()


def _exponentials(logits_MV: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrites the logits with exp(logit - max). Returns the sum of each row (M, 1) and the maximum of each row
    (M, 1)."""
    top = logits_MV.amax(-1, keepdim=True)
    return logits_MV.sub_(top).exp_().sum(-1, keepdim=True), top


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        kept: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, Tensor]:
        need_x, need_weight = ctx.needs_input_grad[:2]
        dtype = _accumulator_dtype(x_ND.dtype)
        if kept is None:
            kept = (labels_N != IGNORE).nonzero().flatten()
        dx_ND = torch.zeros_like(x_ND) if need_x else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=dtype) if need_weight else None
        if x_ND.is_cuda and options.cap is None and dx_ND is not None:
            total, z_loss = _on_gpu(x_ND, weight_VD, labels_N, kept, options, dx_ND, d_weight_VD)
        else:
            total, z_loss = _by_chunk(x_ND, weight_VD, labels_N, kept, options, dx_ND, d_weight_VD)
        ctx.save_for_backward(dx_ND, d_weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(z_loss)
        return total, z_loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        dx_ND, d_weight_VD = ctx.saved_tensors
        if dx_ND is not None:
            dx_ND = dx_ND * scale.to(dx_ND.dtype)
        if d_weight_VD is not None:
            d_weight_VD = (d_weight_VD * scale).to(ctx.weight_dtype)
        return dx_ND, d_weight_VD, None, None, None


def _by_chunk(
    x_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    kept: Tensor,
    options: _Options,
    dx_ND: Tensor | None,
    d_weight_VD: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns the sum of the losses and the z-loss that it includes, and adds the gradients to those of `dx_ND` and
    `d_weight_VD` that are given."""
    dtype = _accumulator_dtype(x_ND.dtype)
    total, z_loss = x_ND.new_zeros((), dtype=dtype), x_ND.new_zeros((), dtype=dtype)
    cap, z_weight = options.cap, options.z_weight
    everything = len(kept) == len(labels_N)
    for indices in kept.split(_chunk(options.chunk, weight_VD)):
        x = x_ND[int(indices[0]) : int(indices[0]) + len(indices)] if everything else x_ND.index_select(0, indices)
        labels = labels_N[indices].unsqueeze(-1)
        logits = (x @ weight_VD.t()).to(dtype)
        slope = None
        if cap is not None:
            logits = soft_capped(logits, cap)
            slope = _slope(logits, cap)
        picked = logits.gather(-1, labels)
        sums, top = _exponentials(logits)
        total += (sums.log() + top - picked).sum()
        log_z = sums.log() + top if z_weight else None
        if log_z is not None:
            z_loss += log_z.square().sum() * z_weight
        if dx_ND is None and d_weight_VD is None:
            continue
        grad = logits.div_(sums)
        if log_z is not None:
            grad.mul_(1 + 2 * z_weight * log_z)
        grad.scatter_add_(-1, labels, torch.full_like(picked, -1.0))
        if slope is not None:
            grad.mul_(slope)
        grad = grad.to(x_ND.dtype)
        if dx_ND is not None:
            dx_ND.index_copy_(0, indices, grad @ weight_VD)
        if d_weight_VD is not None:
            if dtype == x_ND.dtype:
                d_weight_VD.addmm_(grad.t(), x)
            else:
                d_weight_VD += grad.t() @ x
    return total.add_(z_loss) if z_weight else total, z_loss


def _on_gpu(
    x_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    kept: Tensor,
    options: _Options,
    dx_ND: Tensor,
    d_weight_VD: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`_by_chunk` with large chunks, and with a compiled kernel that reads the logits of each chunk only."""
    assert options.cap is None
    dtype = _accumulator_dtype(x_ND.dtype)
    total, z_loss = x_ND.new_zeros((), dtype=dtype), x_ND.new_zeros((), dtype=dtype)
    # A tensor, because torch.compile would compile a number anew for each value; `full` does not wait for the GPU.
    weight = x_ND.new_full((), options.z_weight, dtype=torch.float32) if options.z_weight else None
    everything = len(kept) == len(labels_N)
    x_KD, labels_K = (x_ND, labels_N) if everything else (x_ND.index_select(0, kept), labels_N[kept])
    dx_KD = dx_ND if everything else torch.empty_like(x_KD)
    if len(kept):
        size = options.chunk or max(64, CUDA_CHUNK_LOGITS // len(weight_VD))
        for x, labels, dx in zip(*(even_chunks(y, size) for y in (x_KD, labels_K, dx_KD)), strict=True):
            loss, grad, z = _compiled()(x @ weight_VD.t(), labels, weight)
            total += loss
            if z is not None:
                z_loss += z
            torch.mm(grad, weight_VD, out=dx)
            if d_weight_VD is not None:
                d_weight_VD += grad.t() @ x
    if not everything:
        dx_ND.index_copy_(0, kept, dx_KD)
    return total, z_loss


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        temperature: float,
        chunk: int | None,
        cap: float | None,
    ) -> Tensor:
        dtype = _accumulator_dtype(x_ND.dtype)
        kept = (labels_N != IGNORE).nonzero().flatten()
        found = x_ND.new_zeros(len(labels_N), dtype=dtype)
        log_sums = x_ND.new_zeros(len(labels_N), dtype=dtype)
        for indices in kept.split(_chunk(chunk, weight_VD)):
            logits = (x_ND[indices] @ weight_VD.t()).to(dtype)
            logits = (logits if cap is None else soft_capped(logits, cap)).div_(temperature)
            picked = logits.gather(-1, labels_N[indices].unsqueeze(-1))
            sums, top = _exponentials(logits)
            log_sum = sums.log_().add_(top)
            found[indices] = (picked - log_sum).squeeze(-1)
            log_sums[indices] = log_sum.squeeze(-1)
        ctx.save_for_backward(x_ND, weight_VD, labels_N, kept, log_sums)
        ctx.temperature, ctx.chunk, ctx.cap = temperature, chunk, cap
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_N,) = grads
        x_ND, weight_VD, labels_N, kept, log_sums = ctx.saved_tensors
        dtype = _accumulator_dtype(x_ND.dtype)
        dx_ND = torch.zeros_like(x_ND)
        d_weight_VD = torch.zeros_like(weight_VD, dtype=dtype) if ctx.needs_input_grad[1] else None
        for indices in kept.split(_chunk(ctx.chunk, weight_VD)):
            x = x_ND[indices]
            logits = (x @ weight_VD.t()).to(dtype)
            slope = None
            if ctx.cap is not None:
                logits = soft_capped(logits, ctx.cap)
                slope = _slope(logits, ctx.cap)
            grad = logits.div_(ctx.temperature).sub_(log_sums[indices].unsqueeze(-1)).exp_().neg_()
            labels = labels_N[indices].unsqueeze(-1)
            grad.scatter_add_(-1, labels, torch.ones_like(labels, dtype=dtype))
            grad = grad.mul_((grad_N[indices] / ctx.temperature).unsqueeze(-1))
            grad = (grad if slope is None else grad.mul_(slope)).to(x_ND.dtype)
            dx_ND[indices] = grad @ weight_VD
            if d_weight_VD is not None:
                d_weight_VD += grad.t() @ x
        d_weight = None if d_weight_VD is None else d_weight_VD.to(weight_VD.dtype)
        return dx_ND, d_weight, None, None, None, None
