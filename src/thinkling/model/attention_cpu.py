"""Packed attention on a CPU: grouping of documents, and hand-written forward and backward passes.

torch has no CPU kernel for packed documents, and one call per document is slow for short documents. Attention therefore
runs either over whole short rows with a mask, or over groups of documents of similar length, padded on the right to the
same length (causality hides the padding from earlier tokens). Up to `LONGEST_SHORT` tokens, attention is a batch of
small matrix products whose probabilities are saved for the backward pass; longer documents use torch's flash kernel,
which does not save them.

Shapes: N = B·T tokens, H query heads, K key/value heads, X = H + 2K, C head dim; n documents per group, L padded
length of a group, S slots over all groups. Tensors are head-major, (heads, N, C).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

QUERY_BLOCK = 64
"""Number of queries per block. Products with keys after a block's last query are not computed."""
LONGEST_SHORT = 512
"""Length in tokens up to which saving probabilities is faster than the flash kernel (forward + backward, one core, 3
heads of 32 channels: 2.3 vs. 3.5 ms for 8 × 128 tokens, 10 vs. 13.5 ms for 2 × 512). The probabilities take ≤ 1.2 KB
per token and head."""

Document = tuple[int, int]
"""Index of the document's first token among the N tokens, and the document's length."""


@dataclass(frozen=True, eq=False)
class Group:
    """Documents (or whole rows) that are computed together, each padded to `length` slots."""

    documents: int
    length: int
    offset: int = 0
    """Index of the first token, if the slots are consecutive tokens."""
    tokens: Tensor | None = None
    """int64 (n·L): the index of the token in each slot, if the slots are not consecutive tokens. A padding slot
    contains the index of its document's first token."""
    padding: Tensor | None = None
    """int64: indices of the padding among the n·L slots; None if there is no padding."""
    mask: Tensor | None = None
    """fp32 (n, L, L), 0 or -inf: the keys visible to each query; None if every query sees all keys up to its own."""

    @property
    def slots(self) -> int:
        return self.documents * self.length


@dataclass(frozen=True, eq=False)
class Plan:
    """The groups of a layout."""

    groups: tuple[Group, ...]
    token_slots: Tensor | None = None
    """int64 (N): each token's slot among the slots of all groups, or one past the last slot for a token that is not in
    a group. None if there is a single group whose slots are the N tokens."""


def make_plan(lengths: Sequence[Sequence[int]], sequence_length: int) -> Plan:
    """Chooses whole rows or groups of documents, by estimated cost. The plan depends only on the lengths."""
    documents: list[Document] = []
    for row, sizes in enumerate(lengths):
        start = row * sequence_length
        for n in sizes:
            documents.append((start, n))
            start += n
    members, cost = _cheapest_groups(documents)
    causal = all(len(row) <= 1 for row in lengths)
    whole = _cost(len(lengths), sequence_length, gathered=False, masked=not causal)
    if not documents or (whole <= cost and (causal or sequence_length <= LONGEST_SHORT)):
        mask = None if causal else _document_mask(lengths, sequence_length)
        return Plan((Group(len(lengths), sequence_length, mask=mask),))
    return _grouped(members, len(lengths) * sequence_length)


def _cost(documents: int, length: int, *, gathered: bool, masked: bool = False) -> float:
    """Estimated nanoseconds per head, forward + backward, on one core (fitted for 16 to 1,024 tokens, 3 heads × 32)."""
    gather = 180.0 * documents * length + 60e3 if gathered else 0.0
    if length > LONGEST_SHORT:
        return gather + 15e3 + 6.5 * documents * length**2
    blocks = math.ceil(length / QUERY_BLOCK)
    product = 4.6 if masked else 3.8
    return gather + 40e3 * blocks + product * documents * length * (length + min(length, QUERY_BLOCK))


def _cheapest_groups(documents: Sequence[Document]) -> tuple[list[list[Document]], float]:
    """Splits the documents, sorted by length, into the groups with the lowest estimated cost. A document longer than
    `LONGEST_SHORT` is grouped only with adjacent documents of the same length."""
    sizes: dict[int, list[Document]] = {}
    for document in documents:
        sizes.setdefault(_rounded(document[1]), []).append(document)
    order = sorted(sizes)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end, largest in enumerate(order, start=1):
        count = 0
        options: list[tuple[float, int]] = []
        for begin in range(end - 1, -1, -1):
            count += len(sizes[order[begin]])
            options.append((best[begin][0] + _cost(count, largest, gathered=largest <= LONGEST_SHORT), begin))
            if largest > LONGEST_SHORT:
                break
        best.append(min(options))
    members: list[list[Document]] = []
    end = len(order)
    while end:
        begin = best[end][1]
        group = [d for size in order[begin:end] for d in sizes[size]]
        members += [group] if order[end - 1] <= LONGEST_SHORT else _runs(group)
        end = begin
    return members, best[-1][0]


def _rounded(n: int) -> int:
    """Rounds up to a multiple of 8 if n ≤ 64, and to a multiple of 32 if n ≤ `LONGEST_SHORT`. Greater lengths are
    unchanged."""
    if n > LONGEST_SHORT:
        return n
    step = 8 if n <= 64 else 32
    return -(-n // step) * step


def _runs(documents: list[Document]) -> list[list[Document]]:
    """Splits documents of equal length into runs of adjacent documents."""
    runs: list[list[Document]] = []
    for start, n in documents:
        if runs and runs[-1][-1] == (start - n, n):
            runs[-1].append((start, n))
        else:
            runs.append([(start, n)])
    return runs


def _document_mask(lengths: Sequence[Sequence[int]], sequence_length: int) -> Tensor:
    sizes = torch.tensor([n for row in lengths for n in (*row, sequence_length - sum(row))])
    ids = torch.arange(len(sizes), dtype=torch.int32).repeat_interleave(sizes).view(-1, sequence_length)
    return torch.where(ids.unsqueeze(2) == ids.unsqueeze(1), _future(0, sequence_length, torch.float32), -math.inf)


def _grouped(members: list[list[Document]], total: int) -> Plan:
    groups: list[Group] = []
    slots = sum(len(part) * max(n for _, n in part) for part in members)
    token_slots = torch.full((total,), slots)
    first = 0
    for part in members:
        starts, sizes = torch.tensor(part).unsqueeze(-1).unbind(1)
        length = int(sizes.max())
        steps = torch.arange(length)
        real = (steps < sizes).flatten()
        tokens = torch.where(steps < sizes, starts + steps, starts).flatten()
        token_slots[tokens[real]] = torch.arange(first, first + len(tokens))[real]
        first += len(tokens)
        if _runs(part) == [part]:
            groups.append(Group(len(part), length, part[0][0]))
        else:
            padding = None if real.all() else (~real).nonzero().flatten()
            groups.append(Group(len(part), length, tokens=tokens, padding=padding))
    if len(groups) == 1 and groups[0].tokens is None and groups[0].slots == total:
        return Plan((groups[0],))
    return Plan(tuple(groups), token_slots)


def attend(qkv_XNC: Tensor, heads: int, plan: Plan) -> tuple[Tensor, list[Tensor]]:
    """Softmax attention without a scale (queries are already scaled by 1/√C). `qkv_XNC` contains `heads` query heads,
    then keys, then values. Returns o_HNC, which is 0 for tokens outside all groups, and the tensors that
    `attend_backward` needs."""
    channels = qkv_XNC.shape[-1]
    saved: list[Tensor] = []
    parts: list[Tensor] = []
    for group in plan.groups:
        q, k, v = _operands(qkv_XNC, heads, group)
        forward = _forward_short if group.length <= LONGEST_SHORT else _forward_long
        o, kept = forward(q, k, v, group)
        parts.append(o.view(heads, group.slots, channels))
        saved += kept
    return _to_tokens(parts, plan), saved


def attend_backward(do_HNC: Tensor, qkv_XNC: Tensor, saved: Sequence[Tensor], plan: Plan) -> Tensor:
    """Returns the gradient of `qkv_XNC`, in the same shape."""
    heads, channels = do_HNC.shape[0], do_HNC.shape[-1]
    remaining = list(saved)
    parts: list[Tensor] = []
    for group in plan.groups:
        q, k, v = _operands(qkv_XNC, heads, group)
        do = _gather(do_HNC, group)
        if group.padding is not None:
            do.index_fill_(1, group.padding, 0.0)
        do = do.reshape(heads * group.documents, group.length, channels)
        grad_XsC = qkv_XNC.new_empty(qkv_XNC.shape[0], group.slots, channels)
        if group.length <= LONGEST_SHORT:
            count = math.ceil(group.length / QUERY_BLOCK)
            _backward_short(do, q, k, v, remaining[:count], group, grad_XsC)
        else:
            count = 2
            _backward_long(do, q, k, v, remaining[0], remaining[1], group, grad_XsC)
        del remaining[:count]
        parts.append(grad_XsC)
    return _to_tokens(parts, plan)


def _gather(x_XNC: Tensor, group: Group) -> Tensor:
    """Returns the tokens in the group's slots, (X, n·L, C), as a view if the slots are consecutive tokens."""
    if group.tokens is not None:
        return x_XNC.index_select(1, group.tokens)
    return x_XNC if group.slots == x_XNC.shape[1] else x_XNC.narrow(1, group.offset, group.slots)


def _operands(qkv_XNC: Tensor, heads: int, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Returns q (H·n, L, C), k and v (K·n, L, C) of a group."""
    total, _, channels = qkv_XNC.shape
    kv_heads = (total - heads) // 2
    # The reshape is a view if all tokens are gathered or in place, because the heads are then `slots` apart.
    x = _gather(qkv_XNC, group).reshape(total * group.documents, group.length, channels)
    q, k, v = x.split_with_sizes([n * group.documents for n in (heads, kv_heads, kv_heads)])
    return q, k, v


def _to_tokens(parts: list[Tensor], plan: Plan) -> Tensor:
    """Returns the tokens' values from the groups' slots, (X, N, C), with 0 for tokens outside all groups."""
    if plan.token_slots is None:
        return parts[0]
    heads, _, channels = parts[0].shape
    return torch.cat([*parts, parts[0].new_zeros(heads, 1, channels)], 1).index_select(1, plan.token_slots)


@cache
def _future(begin: int, end: int, dtype: torch.dtype) -> Tensor:
    """Returns a mask (1, end - begin, end): -inf if the key is later than the query. Queries start at `begin`."""
    return torch.full((1, end - begin, end), -math.inf, dtype=dtype).triu_(begin + 1)


def _shared(x_knLC: Tensor, documents: int, queries: int) -> Tensor:
    """Repeats keys or values (K·n, L, C) for the query heads that share them: (H·n, L, C)."""
    if len(x_knLC) == queries:
        return x_knLC
    kv_heads = len(x_knLC) // documents
    x_KnLC = x_knLC.view(kv_heads, documents, *x_knLC.shape[1:])
    return x_KnLC.repeat_interleave(queries // len(x_knLC), 0).view(queries, *x_knLC.shape[1:])


def _forward_short(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, list[Tensor]]:
    """Returns the output (H·n, L, C) and the probabilities of each block."""
    batch, length, _ = q.shape
    k, v = (_shared(x, group.documents, batch) for x in (k, v))
    keys = k.transpose(1, 2)
    outputs: list[Tensor] = []
    probabilities: list[Tensor] = []
    for begin in range(0, length, QUERY_BLOCK):
        end = min(begin + QUERY_BLOCK, length)
        queries = q.narrow(1, begin, end - begin)
        if group.mask is None:
            scores = torch.baddbmm(_future(begin, end, q.dtype), queries, keys.narrow(2, 0, end))
        else:
            scores = torch.bmm(queries, keys.narrow(2, 0, end))
            scores.view(-1, group.documents, end - begin, end).add_(group.mask[:, begin:end, :end])
        p = torch.softmax(scores, -1)
        outputs.append(torch.bmm(p, v.narrow(1, 0, end)))
        probabilities.append(p)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1), probabilities


def _backward_short(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, probabilities: Sequence[Tensor], group: Group, grad_XsC: Tensor
) -> None:
    """Fills `grad_XsC`. The last block is processed first: it covers all keys, so the dk and dv of other blocks are
    added to those of the last block."""
    batch, length, channels = q.shape
    shared, documents = batch // len(k), group.documents
    whole_k, whole_v = (_shared(x, documents, batch) for x in (k, v))
    values = whole_v.transpose(1, 2)
    dq, dk, dv = grad_XsC.view(-1, length, channels).split((batch, len(k), len(k)))
    dk_whole, dv_whole = (dk, dv) if shared == 1 else (torch.empty_like(whole_k), torch.empty_like(whole_v))
    for i in reversed(range(len(probabilities))):
        p = probabilities[i]
        begin, end = i * QUERY_BLOCK, min((i + 1) * QUERY_BLOCK, length)
        do_block, q_block = do.narrow(1, begin, end - begin), q.narrow(1, begin, end - begin)
        ds = torch.ops.aten._softmax_backward_data(torch.bmm(do_block, values.narrow(2, 0, end)), p, -1, p.dtype)
        dq.narrow(1, begin, end - begin).copy_(torch.bmm(ds, whole_k.narrow(1, 0, end)))
        if end == length:
            torch.bmm(p.transpose(1, 2), do_block, out=dv_whole)
            torch.bmm(ds.transpose(1, 2), q_block, out=dk_whole)
        else:
            dv_whole.narrow(1, 0, end).add_(torch.bmm(p.transpose(1, 2), do_block))
            dk_whole.narrow(1, 0, end).add_(torch.bmm(ds.transpose(1, 2), q_block))
    if shared > 1:
        shape = (-1, shared, documents, length, channels)
        torch.sum(dk_whole.view(shape), 1, out=dk.view(-1, documents, length, channels))
        torch.sum(dv_whole.view(shape), 1, out=dv.view(-1, documents, length, channels))


def _flash_operand(x: Tensor, documents: int) -> Tensor:
    """Views (heads·n, L, C) as (n, heads, L, C)."""
    return x.view(-1, documents, *x.shape[1:]).transpose(0, 1)


def _forward_long(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, list[Tensor]]:
    """Returns the output (H, n, L, C), and the inputs of the flash kernel's backward pass: output (n, H, L, C) and
    log-sum-exp."""
    q, k, v = (_flash_operand(x, group.documents) for x in (q, k, v))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=1.0)
    return out.transpose(0, 1).contiguous(), [out, lse]


def _backward_long(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, group: Group, grad_XsC: Tensor
) -> None:
    do, q, k, v = (_flash_operand(x, group.documents) for x in (do, q, k, v))
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    grads = backward(do, q, k, v, out, lse, 0.0, True, scale=1.0)
    targets = grad_XsC.view(-1, group.documents, *do.shape[2:]).split([x.shape[1] for x in grads])
    for target, grad in zip(targets, grads, strict=True):
        target.copy_(grad.transpose(0, 1))
