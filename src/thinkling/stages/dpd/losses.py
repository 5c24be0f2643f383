"""The three terms of dual preference distillation (docs/recipe.md, DPD), computed in one forward pass over both sides
of all pairs.

    L = w_dpo · -log σ(β (Δ⁺ - Δ⁻)) + w⁺ · KL along y⁺ + w⁻ · KL along y⁻,    Δ = log π(y|x) - log π_ref(y|x)

If enabled, w_solved · KL along the student's correct answers is added, averaged over these answers.

Shapes: B rows, T positions, N = B·T tokens, D hidden size of the student, E hidden size of the teacher, V vocabulary
size, M tokens per chunk, P pairs, S sequences. Sequence 2p is y⁺ of pair p, sequence 2p + 1 is y⁻ of pair p, and
sequences from 2P on are answers to solved problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from thinkling.labels import IGNORE
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.loss import CHUNK_LOGITS, chunked_log_probs
from thinkling.stages.dpd.batches import PairBatch
from thinkling.stages.dpd.config import DpdConfig
from thinkling.train.trainer import Objective


def chunked_kl(
    x_ND: Tensor,
    weight_VD: Tensor,
    teacher_x_NE: Tensor,
    teacher_weight_VE: Tensor,
    factors_N: Tensor,
    reverse: bool = False,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns (Σ factor · KL as a scalar, KL_N without gradient), in nats over the whole vocabulary, in fp32 (fp64 for
    fp64 input).

    The KL divergence is KL(teacher ‖ student) or, with `reverse`, KL(student ‖ teacher). Tokens with factor 0 are
    skipped, and their KL is returned as 0. The logits of student and teacher exist only for `chunk` tokens at a time.
    Gradients flow only to `x_ND` and `weight_VD`. They are computed in the forward pass, and the gradient of the head
    is summed in fp32.
    """
    return _Kl.apply(x_ND, weight_VD, teacher_x_NE, teacher_weight_VE, factors_N, reverse, chunk)


class _Kl(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        teacher_x_NE: Tensor,
        teacher_weight_VE: Tensor,
        factors_N: Tensor,
        reverse: bool,
        chunk: int | None,
    ) -> tuple[Tensor, Tensor]:
        need_x, need_weight = ctx.needs_input_grad[:2]
        dtype = torch.promote_types(x_ND.dtype, torch.float32)
        kl_N = x_ND.new_zeros(len(x_ND), dtype=dtype)
        total = x_ND.new_zeros((), dtype=dtype)
        dx_ND = torch.zeros_like(x_ND) if need_x else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=dtype) if need_weight else None
        # Two logits tensors exist at a time, so use half the chunk size of the other losses.
        size = chunk or max(64, CHUNK_LOGITS // 2 // len(weight_VD))
        for kept_M in factors_N.nonzero().flatten().split(size):
            x_MD, factors_M = x_ND[kept_M], factors_N[kept_M].to(dtype)
            student_MV = F.log_softmax((x_MD @ weight_VD.t()).to(dtype), -1)
            teacher_MV = F.log_softmax((teacher_x_NE[kept_M] @ teacher_weight_VE.t()).to(dtype), -1)
            if reverse:
                ratio_MV, grad_MV = student_MV - teacher_MV, student_MV.exp_()
                kl_M = (grad_MV * ratio_MV).sum(-1)
                grad_MV.mul_(ratio_MV.sub_(kl_M.unsqueeze(-1)))
            else:
                ratio_MV, p_MV = teacher_MV - student_MV, teacher_MV.exp_()
                kl_M = (p_MV * ratio_MV).sum(-1)
                grad_MV = student_MV.exp_().sub_(p_MV)
            kl_N[kept_M] = kl_M
            total += kl_M @ factors_M
            grad = grad_MV.mul_(factors_M.unsqueeze(-1)).to(x_ND.dtype)
            if dx_ND is not None:
                dx_ND[kept_M] = grad @ weight_VD
            if d_weight_VD is not None:
                d_weight_VD += grad.t() @ x_MD
        ctx.save_for_backward(dx_ND, d_weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(kl_N)
        return total, kl_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        dx_ND, d_weight_VD = ctx.saved_tensors
        if dx_ND is not None:
            dx_ND = dx_ND * scale.to(dx_ND.dtype)
        if d_weight_VD is not None:
            d_weight_VD = (d_weight_VD * scale).to(ctx.weight_dtype)
        return dx_ND, d_weight_VD, None, None, None, None, None


def sum_by_sequence(values_N: Tensor, sequences_N: Tensor, n_sequences: int) -> Tensor:
    """Returns sums over the tokens of each sequence, (S,). Tokens with the number -1 belong to no sequence."""
    kept = sequences_N >= 0
    return values_N.new_zeros(n_sequences).index_add(0, sequences_N[kept], values_N[kept])


def dpo_loss(log_probs_S: Tensor, reference_S: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Returns the loss and the reward margin β (Δ⁺ - Δ⁻) of each pair, both (P,), computed from log π(y|x) and log
    π_ref(y|x) (arXiv 2305.18290 eq. 7)."""
    ratios_S = log_probs_S - reference_S
    margin_P = beta * (ratios_S[0::2] - ratios_S[1::2])
    return -F.logsigmoid(margin_P), margin_P


def sequence_log_probs(model: Decoder, batch: PairBatch, device: torch.device) -> Tensor:
    """Returns log π(y|x) of each sequence that belongs to a pair, summed over its loss tokens, (2P,), with gradient."""
    x_ND, labels_N, sequences_N, _ = _forward(model, batch, device)
    log_probs_N = chunked_log_probs(x_ND, model.output_weight, labels_N)
    return sum_by_sequence(log_probs_N, sequences_N, 2 * batch.n_pairs + batch.n_solved)[: 2 * batch.n_pairs]


def dpd_objective(config: DpdConfig, teacher: Decoder | None, device: torch.device) -> Objective:
    """Returns an objective that computes the joint loss of a PairBatch, the number of its pairs, and sums over pairs
    for logging: each unweighted term, the reward margin of the DPO term, and the number of pairs with a positive
    margin. `teacher` is required for KL terms."""
    weights = config.weights
    if config.imitates and teacher is None:
        raise ValueError("a KL term has a positive weight, but no teacher is given")
    # The trainer divides the loss by the number of pairs, but the term for solved problems is a mean over these
    # problems.
    per_solved = config.batch_size / config.solved_per_step if config.holds else 0.0

    def objective(model: nn.Module, batch: PairBatch) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
        assert isinstance(model, Decoder)
        in_pairs, n = 2 * batch.n_pairs, 2 * batch.n_pairs + batch.n_solved
        x_ND, labels_N, sequences_N, layout = _forward(model, batch, device)
        total = x_ND.new_zeros((), dtype=torch.promote_types(x_ND.dtype, torch.float32))
        metrics: dict[str, float | Tensor] = {}
        if weights.dpo:
            log_probs_N = chunked_log_probs(x_ND, model.output_weight, labels_N)
            reference_S = torch.from_numpy(batch.references_S).to(device, log_probs_N.dtype)
            log_probs_S = sum_by_sequence(log_probs_N, sequences_N, n)[:in_pairs]
            loss_P, margin_P = dpo_loss(log_probs_S, reference_S, config.beta)
            total = total + weights.dpo * loss_P.sum()
            metrics |= {"dpo": loss_P.sum(), "dpo_margin": margin_P.sum(), "dpo_accuracy": (margin_P > 0).sum()}
        if teacher is not None and config.imitates:
            with torch.no_grad():
                teacher_x_NE = teacher(torch.from_numpy(batch.packed.tokens_BT).to(device), layout).flatten(0, 1)
            # The two vocabularies may be padded to different sizes; padding is never a label.
            vocab = min(len(model.output_weight), len(teacher.output_weight))
            fractions_N = _fractions(sequences_N, n, config.kl == "mean").to(total.dtype)
            side_N = torch.where(sequences_N < in_pairs, sequences_N % 2, 2)
            factor = torch.tensor([weights.kl_chosen, weights.kl_rejected, weights.kl_solved * per_solved])
            factors_N = fractions_N * factor.to(fractions_N)[side_N]
            loss, kl_N = chunked_kl(
                x_ND,
                model.output_weight[:vocab],
                teacher_x_NE,
                teacher.output_weight[:vocab],
                factors_N,
                config.direction == "reverse",
            )
            total = total + loss
            scales = {"kl_chosen": 1.0, "kl_rejected": 1.0, "kl_solved": per_solved}
            for side, (name, scale) in enumerate(scales.items()):
                if getattr(weights, name) * scale:
                    metrics[name] = (kl_N * fractions_N)[side_N == side].sum() * scale
        return total, batch.n_pairs, metrics

    return objective


def _fractions(sequences_N: Tensor, n_sequences: int, mean: bool) -> Tensor:
    """Returns the weight of each token's KL within its sequence: 1 or, with `mean`, 1/(number of loss tokens). Tokens
    without loss have weight 0."""
    bears_N = (sequences_N >= 0).double()
    if not mean:
        return bears_N
    sizes_S = sum_by_sequence(bears_N, sequences_N, n_sequences)
    return bears_N / sizes_S[sequences_N.clamp(min=0)].clamp(min=1)


def _forward(model: Decoder, batch: PairBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, DocumentLayout]:
    """Returns the hidden states x_ND, labels_N, sequences_N (-1 for tokens without loss) and the layout."""
    packed = batch.packed
    layout = DocumentLayout.from_lengths(packed.lengths, packed.tokens_BT.shape[1], device)
    x_ND = model(torch.from_numpy(packed.tokens_BT).to(device), layout).flatten(0, 1)
    labels_N = torch.from_numpy(packed.labels_BT).to(device).flatten()
    sequences_N = torch.from_numpy(batch.sequences_BT).to(device).flatten()
    return x_ND, labels_N, sequences_N.masked_fill(labels_N == IGNORE, -1), layout
