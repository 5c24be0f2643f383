"""Causal attention within each packed document, in one function with a CPU path and a GPU path.

Shapes: B rows, T positions, N = B·T tokens, H query heads, K key/value heads, C head dim.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from thinkling.model.attention_cpu import Plan, attend, attend_backward, make_plan
from thinkling.model.device import to_device

_PREFERRED = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Kernels of torch for whole rows on a GPU, the fastest first. cuDNN's takes 0.55 to 0.6 of the time of flash."""
_BOUNDS = 64
_BLOCK = 512
"""Number of queries per block if attention has a window or a soft cap."""


@dataclass(frozen=True, eq=False)
class DocumentLayout:
    """Positions of the documents in a batch of rows. Tokens outside any document are padding at the end of a row."""

    lengths: tuple[tuple[int, ...], ...]
    """Document lengths of each row, in order."""
    sequence_length: int
    positions_BT: Tensor
    """int64; positions start at 0 at each document and at the padding."""
    cu_seqlens: Tensor
    """int32; the boundaries of all documents and padding runs among the N tokens, from 0 to N. On a GPU, N is repeated
    at the end, so that the number of boundaries is a multiple of 64."""
    one_document_a_row: bool
    """Whether no row has more than one document. Plain causal attention over rows is then correct, because padding
    after a row's only document does not affect the document."""

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[Sequence[int]], sequence_length: int, device: torch.device | str | None = None
    ) -> DocumentLayout:
        """Raises ValueError if a document is empty or a row's documents exceed `sequence_length`."""
        rows = tuple(tuple(int(n) for n in row) for row in lengths)
        segments: list[int] = []
        for row in rows:
            used = sum(row)
            if min(row, default=1) < 1 or used > sequence_length:
                raise ValueError(f"documents of {list(row)} tokens do not fit into a row of {sequence_length}")
            segments += row
            if used < sequence_length:
                segments.append(sequence_length - used)
        sizes = torch.tensor(segments, dtype=torch.int64)
        ends = sizes.cumsum(0)
        positions = torch.arange(len(rows) * sequence_length) - (ends - sizes).repeat_interleave(sizes)
        bounds = F.pad(ends, (1, 0))
        if device is not None and torch.device(device).type == "cuda":
            # Empty documents at the end, so that few shapes occur.
            bounds = F.pad(bounds, (0, -len(bounds) % _BOUNDS), value=len(rows) * sequence_length)
        return cls(
            lengths=rows,
            sequence_length=sequence_length,
            positions_BT=to_device(positions.view(len(rows), sequence_length), device),
            cu_seqlens=to_device(bounds.to(torch.int32), device),
            one_document_a_row=all(len(row) <= 1 for row in rows),
        )

    @cached_property
    def longest(self) -> int:
        """Length of the longest document in tokens."""
        return max((n for row in self.lengths for n in row), default=0)

    @cached_property
    def padding(self) -> int:
        """Number of tokens outside any document."""
        return len(self.lengths) * self.sequence_length - sum(map(sum, self.lengths))

    @cached_property
    def without_padding(self) -> tuple[DocumentLayout, Tensor]:
        """A layout with the same documents end to end in one row, and the index (int64, into the N tokens) of each
        token of that row."""
        total = sum(map(sum, self.lengths))
        layout = DocumentLayout.from_lengths([[n for row in self.lengths for n in row]], total, self.cu_seqlens.device)
        used = torch.tensor([sum(row) for row in self.lengths], device=self.cu_seqlens.device)
        inside = torch.arange(self.sequence_length, device=self.cu_seqlens.device) < used.unsqueeze(1)
        return layout, inside.flatten().nonzero().flatten()

    @cached_property
    def plan(self) -> Plan:
        """The groups of documents for the CPU path."""
        return make_plan(self.lengths, self.sequence_length)


def packed_attention(
    q_BTHC: Tensor,
    k_BTKC: Tensor,
    v_BTKC: Tensor,
    layout: DocumentLayout,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal softmax attention, with scale 1/√C, within each document; returns o_BTHC. H must be a multiple of K.

    `window`: number of tokens visible to a query, including the query's own token. `softcap`: see
    `Features.attention_softcap`. Outputs at padding are finite but meaningless. On a GPU, bf16 and fp16 use torch's
    flash kernels. Other dtypes, and all dtypes with a softcap, need one call per document or per block of queries.
    """
    on_kernel = q_BTHC.device.type != "cpu" and q_BTHC.dtype in (torch.bfloat16, torch.float16)
    # On the kernel, a window that covers the longest document but not the row is kept: it costs nothing, and whether
    # there is a window must not vary between batches, because a change would trigger recompilation.
    if window is not None and window >= (layout.sequence_length if on_kernel else layout.longest):
        window = None
    if softcap is not None or (window is not None and not on_kernel):
        return _documents_by_block(q_BTHC, k_BTKC, v_BTKC, layout, window, softcap)
    if q_BTHC.device.type == "cpu":
        return _CpuAttention.apply(q_BTHC, k_BTKC, v_BTKC, layout.plan)
    if layout.one_document_a_row and window is None:
        q, k, v = (x.transpose(1, 2) for x in (q_BTHC, k_BTKC, v_BTKC))
        with sdpa_kernel(_PREFERRED, set_priority=True):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
    if on_kernel:
        q, k, v = (x.flatten(0, 1) for x in (q_BTHC, k_BTKC, v_BTKC))
        # The row length is an upper bound for every document and a constant, so one compiled graph serves all batches.
        bounds, longest = layout.cu_seqlens, layout.sequence_length
        out = _varlen()(q, k, v, bounds, bounds, longest, longest, **_varlen_options(window))
        return out.view_as(q_BTHC)
    return attention_by_document(q_BTHC, k_BTKC, v_BTKC, layout)


def attention_by_document(q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, layout: DocumentLayout) -> Tensor:
    """`packed_attention` with one SDPA call per document. It works on any device with any dtype, and is the reference
    in tests."""
    rows: list[Tensor] = []
    for i, lengths in enumerate(layout.lengths):
        sizes = (*lengths, layout.sequence_length - sum(lengths))
        parts = zip(*(x[i].transpose(0, 1).split(sizes, 1) for x in (q_BTHC, k_BTKC, v_BTKC)), strict=True)
        done = [F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True) for q, k, v in parts]
        rows.append(torch.cat(done, 1).transpose(0, 1))
    return torch.stack(rows)


def _documents_by_block(
    q_BTHC: Tensor,
    k_BTKC: Tensor,
    v_BTKC: Tensor,
    layout: DocumentLayout,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """`packed_attention` with windows and soft caps, one block of queries at a time to keep masks and scores small."""
    rows: list[Tensor] = []
    window, scale = window or layout.sequence_length, q_BTHC.shape[3] ** -0.5
    for i, lengths in enumerate(layout.lengths):
        sizes = (*lengths, layout.sequence_length - sum(lengths))
        parts = zip(*(x[i : i + 1].transpose(1, 2).split(sizes, 2) for x in (q_BTHC, k_BTKC, v_BTKC)), strict=True)
        done = [causal_by_block(q, k, v, window, scale, softcap) for q, k, v in parts]
        rows.append(torch.cat(done, 2).transpose(1, 2))
    return torch.cat(rows)


def causal_by_block(
    q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, window: int, scale: float, softcap: float | None
) -> Tensor:
    """Causal attention within a window, one block of queries at a time, so that masks grow with the window rather than
    with T²."""
    outputs: list[Tensor] = [q_BHTC[:, :, :0]]
    length = q_BHTC.shape[2]
    for begin in range(0, length, _BLOCK):
        end = min(begin + _BLOCK, length)
        first = max(0, begin - window + 1)
        places = torch.arange(first, end, device=q_BHTC.device)
        behind = places[begin - first :, None] - places
        q, k, v = q_BHTC[:, :, begin:end], k_BKTC[:, :, first:end], v_BKTC[:, :, first:end]
        outputs.append(masked_attention(q, k, v, (behind >= 0) & (behind < window), scale, softcap))
    return torch.cat(outputs, 2)


def masked_attention(
    q_BHTC: Tensor, k_BKSC: Tensor, v_BKSC: Tensor, seen_TS: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Attention of T queries over the S keys allowed by the boolean `seen_TS`; returns o_BHTC."""
    if softcap is None:
        return F.scaled_dot_product_attention(q_BHTC, k_BKSC, v_BKSC, attn_mask=seen_TS, scale=scale, enable_gqa=True)
    shared = q_BHTC.shape[1] // k_BKSC.shape[1]
    k, v = k_BKSC.repeat_interleave(shared, 1), v_BKSC.repeat_interleave(shared, 1)
    scores = soft_capped((q_BHTC @ k.transpose(2, 3)) * scale, softcap).masked_fill(~seen_TS, -torch.inf)
    return torch.softmax(scores, -1, dtype=torch.promote_types(v.dtype, torch.float32)).to(v.dtype) @ v


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """Returns cap · tanh(x / cap)."""
    return torch.tanh(x / cap) * cap


@cache
def _varlen() -> Any:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@cache
def _varlen_options(window: int | None) -> dict[str, Any]:
    """Options of `varlen_attn` for causal attention: `window` keys up to the query's own, or all keys up to the query's
    own if `window` is None. torch 2.11 lets query heads share key heads by default; later versions have an option for
    this."""
    options: dict[str, Any] = {"window_size": (-1 if window is None else window - 1, 0)}
    if "enable_gqa" in inspect.signature(_varlen()).parameters:
        options["enable_gqa"] = True
    return options


class _CpuAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, plan: Plan) -> Tensor:
        (rows, length, heads, channels), kv_heads = q_BTHC.shape, k_BTKC.shape[2]
        ctx.sizes = (heads, kv_heads, kv_heads)
        dtype = torch.promote_types(q_BTHC.dtype, torch.float32)
        qkv_XNC = q_BTHC.new_empty(sum(ctx.sizes), rows * length, channels, dtype=dtype)
        for part, x in zip(qkv_XNC.split(ctx.sizes), (q_BTHC, k_BTKC, v_BTKC), strict=True):
            part.copy_(x.flatten(0, 1).transpose(0, 1))
        qkv_XNC[:heads] *= channels**-0.5
        o_HNC, saved = attend(qkv_XNC, heads, plan)
        ctx.save_for_backward(qkv_XNC, *saved)
        ctx.plan = plan
        return o_HNC.transpose(0, 1).reshape(q_BTHC.shape).to(q_BTHC.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (do_BTHC,) = grads
        qkv_XNC, *saved = ctx.saved_tensors
        do_HNC = do_BTHC.flatten(0, 1).transpose(0, 1).to(qkv_XNC.dtype, memory_format=torch.contiguous_format)
        grad_XNC = attend_backward(do_HNC, qkv_XNC, saved, ctx.plan)
        grad_XNC[: ctx.sizes[0]] *= do_BTHC.shape[-1] ** -0.5
        rows, length = do_BTHC.shape[:2]
        dq, dk, dv = (x.unflatten(1, (rows, length)).permute(1, 2, 0, 3) for x in grad_XNC.split(ctx.sizes))
        return dq, dk, dv, None
