"""The native engine's forward pass: a static key/value cache, prefill and one-token decode.

Shapes: B active rows, T positions, D hidden, H query heads, K key/value heads, G = H / K, C head dim, F ffn, V vocab.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thinkling.generate.native.weights import LayerWeights, Weights
from thinkling.model.attention import causal_by_block, soft_capped
from thinkling.model.config import ModelConfig
from thinkling.model.families.base import LayerKind
from thinkling.model.rotary import family_tables, rotary_kinds

_ROOM = 32
"""The length of the cache is a multiple of this many positions, so that rows are aligned."""


class Cache:
    """Keys and values of up to `rows` sequences, (layers, 2, rows, K, T, C). Active rows always come first.

    T grows with the sequences. All entries must be finite at all times, because entries past the end of a sequence
    still enter a product, with weight 0.
    """

    def __init__(self, weights: Weights, rows: int, length: int) -> None:
        c = weights.config
        shape = (c.num_hidden_layers, 2, rows, c.num_key_value_heads, _round_up(length), c.head_dim)
        self.weights = weights
        self.kv = torch.zeros(shape, dtype=weights.dtype, device=weights.device)
        self._extend_tables()

    @property
    def rows(self) -> int:
        return self.kv.shape[2]

    @property
    def length(self) -> int:
        return self.kv.shape[4]

    def reserve(self, length: int, limit: int) -> None:
        """Makes room for `length` positions. The cache grows by at least half of its size, up to `limit` positions."""
        if length > self.length:
            old = self.kv
            new_length = _round_up(min(max(length, self.length * 3 // 2), limit))
            self.kv = old.new_zeros((*old.shape[:4], new_length, old.shape[5]))
            self.kv[:, :, :, :, : old.shape[4]] = old
            self._extend_tables()

    def move(self, source: np.ndarray, target: np.ndarray, length: int) -> None:
        """Copies the first `length` positions of rows `source` over rows `target`."""
        to, of = (torch.from_numpy(rows).to(self.kv.device) for rows in (target, source))
        self.kv[:, :, to, :, :length] = self.kv[:, :, of, :, :length]

    def _extend_tables(self) -> None:
        weights = self.weights
        positions = torch.arange(self.length, device=weights.device)
        self.tables: dict[str, tuple[Tensor, Tensor]] = {}
        for kind in rotary_kinds(weights.config):
            cos, sin = family_tables(positions, weights.config, kind)
            self.tables[kind] = cos.to(weights.dtype), sin.to(weights.dtype)


def prefill(weights: Weights, cache: Cache, tokens_BT: Tensor, rows_of: list[list[int]]) -> None:
    """Writes the keys and values of whole prompts, right-padded to T, into the cache.

    Prompt b is written to the rows `rows_of[b]`, so that samples of one problem share a forward pass. Because attention
    is causal, padding does not affect the prompts; the keys of the padding are overwritten or masked later.
    """
    c = weights.config
    rows, length = tokens_BT.shape
    heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
    source = torch.tensor([b for b, targets in enumerate(rows_of) for _ in targets], device=weights.device)
    target = torch.tensor([row for targets in rows_of for row in targets], device=weights.device)
    tables = {kind: (cos[:length, None], sin[:length, None]) for kind, (cos, sin) in cache.tables.items()}
    x = weights.embed(tokens_BT)
    for number, w in enumerate(weights.layers):
        qk, v = _project(w, c, x, *tables[w.kind.rotary])
        q, k = qk.split((heads, kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        cache.kv[number, 0, target, :, :length] = k[source]
        cache.kv[number, 1, target, :, :length] = v[source]
        if number + 1 < len(weights.layers):  # the last layer's output is not needed, because nothing is sampled here
            o = _attend_causally(weights, w.kind, q, k, v)
            o = o.transpose(1, 2).reshape(rows * length, -1)
            x = _finish_layer(w, weights, x.view(rows * length, -1), o).view(rows, length, -1)


def _attend_causally(weights: Weights, kind: LayerKind, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of whole prompts, (B, heads, T, C)."""
    cap, length, scale = weights.features.attention_softcap, q.shape[2], weights.features.attention_scale
    if cap is None and (kind.window is None or kind.window >= length):
        shared = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared, scale=scale)
    return causal_by_block(q, k, v, kind.window or length, _scale(weights), cap)


def _scale(weights: Weights) -> float:
    """The factor by which products of queries and keys are multiplied."""
    given = weights.features.attention_scale
    return weights.config.head_dim**-0.5 if given is None else given


def decode(weights: Weights, cache: Cache, tokens_B: Tensor, positions: np.ndarray) -> Tensor:
    """Returns logits (B, V) after one more token of each active row, and adds the tokens' keys and values to the cache.

    `positions`: int64 (B,), each token's position in its sequence; row b attends to positions 0 … positions[b].
    """
    c = weights.config
    n, heads, kv_heads, channels = len(positions), c.num_attention_heads, c.num_key_value_heads, c.head_dim
    reach = int(positions.max()) + 1
    where = torch.from_numpy(positions).to(weights.device)
    tables = {kind: (cos[where].unsqueeze(1), sin[where].unsqueeze(1)) for kind, (cos, sin) in cache.tables.items()}
    # Flat index of (row, head, position) within one layer's keys, (B, K).
    row_heads = torch.arange(n * kv_heads, device=weights.device).view(n, kv_heads)
    slots = (row_heads * cache.length + where.unsqueeze(1)).flatten()
    shortest = int(positions.min()) + 1
    biases = {kind: _bias(weights, where, reach, shortest, kind.window) for kind in weights.kinds}
    scale, cap = _scale(weights), weights.features.attention_softcap
    x = weights.embed(tokens_B)
    for w, kv in zip(weights.layers, cache.kv, strict=True):
        qk, v = _project(w, c, x, *tables[w.kind.rotary])
        kv[0].view(-1, channels).index_copy_(0, slots, qk[:, heads:].reshape(-1, channels))
        kv[1].view(-1, channels).index_copy_(0, slots, v.reshape(-1, channels))
        keys, values = kv[:, :n].flatten(1, 2)[:, :, :reach]
        q = qk[:, :heads].reshape(n * kv_heads, -1, channels)
        bias = biases[w.kind]
        # On a CPU, at query length 1, two batched products were 3 to 5 times faster than scaled_dot_product_attention.
        if cap is not None:
            scores = soft_capped(torch.bmm(q, keys.transpose(1, 2)).mul_(scale), cap)
            scores = scores if bias is None else scores.add_(bias)
        elif bias is None:
            scores = torch.bmm(q, keys.transpose(1, 2)).mul_(scale)
        else:
            scores = torch.baddbmm(bias, q, keys.transpose(1, 2), alpha=scale)
        weight = torch.softmax(scores, dim=-1, dtype=torch.float32).to(weights.dtype)
        x = _finish_layer(w, weights, x, torch.bmm(weight, values).view(n, -1))
    return weights.logits(x)


def _bias(weights: Weights, where_B: Tensor, reach: int, shortest: int, window: int | None) -> Tensor | None:
    """Returns the attention bias (B·K, 1, reach), which is -inf at masked positions and 0 elsewhere; None if no
    position is masked."""
    if window is not None and window >= reach:
        window = None
    if shortest == reach and window is None:
        return None
    places, last = torch.arange(reach, device=weights.device), where_B.unsqueeze(1)
    hidden = places > last
    if window is not None:
        hidden |= places <= last - window
    bias = torch.zeros(hidden.shape, dtype=weights.dtype, device=weights.device).masked_fill_(hidden, -torch.inf)
    return bias.repeat_interleave(weights.config.num_key_value_heads, 0).unsqueeze(1)


def _project(w: LayerWeights, c: ModelConfig, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Returns rotated queries and keys (…, H + K, C), and values (…, K, C), of x (…, D)."""
    heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
    qkv = F.linear(_normed(w.norms[0], c, x), w.qkv, w.qkv_bias)
    qkv = qkv.unflatten(-1, (heads + 2 * kv_heads, c.head_dim))
    qk, v = qkv.split((heads + kv_heads, kv_heads), dim=-2)
    if w.q_norm is not None and w.k_norm is not None:
        q, k = qk.split((heads, kv_heads), dim=-2)
        if w.q_norm.shape[0] == c.head_dim:
            q, k = _normed(w.q_norm, c, q), _normed(w.k_norm, c, k)
        else:
            q, k = (_normed(norm, c, y.flatten(-2)).view_as(y) for norm, y in ((w.q_norm, q), (w.k_norm, k)))
        qk = torch.cat((q, k), dim=-2)
    turned = torch.empty_like(qk, memory_format=torch.contiguous_format)
    channels = 2 * cos.shape[-1]
    if channels == c.head_dim:
        _turn(qk, cos, sin, turned)
    else:
        turned[..., channels:] = qk[..., channels:]
        _turn(qk[..., :channels], cos, sin, turned[..., :channels])
    return turned, v


def _turn(x: Tensor, cos: Tensor, sin: Tensor, turned: Tensor) -> None:
    first, second = x.chunk(2, dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=turned_first)
    turned_first.addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned_second)
    turned_second.addcmul_(first, sin)


def _finish_layer(w: LayerWeights, weights: Weights, x: Tensor, o: Tensor) -> Tensor:
    """Projects the heads' outputs (N, H·C), adds them to the residual x (N, D), and applies the SwiGLU."""
    c, gelu = weights.config, weights.features.activation == "gelu_tanh"
    x = _added(x, o, w.o, w.norms[1], weights)
    gate, up = F.linear(_normed(w.norms[2], c, x), w.gate_up).chunk(2, dim=-1)
    gate = F.gelu(gate, approximate="tanh") if gelu else F.silu(gate)
    return _added(x, gate.mul_(up), w.down, w.norms[3], weights)


def _added(x: Tensor, inner: Tensor, matrix: Tensor, norm: Tensor | None, weights: Weights) -> Tensor:
    """Returns x plus the output of a block, which is first normalized and scaled if the model's family requires
    this."""
    scale = weights.features.residual_scale
    if norm is None:
        return torch.addmm(x, inner, matrix.t(), alpha=scale)
    return torch.add(x, _normed(norm, weights.config, F.linear(inner, matrix)), alpha=scale)


def _normed(norm: Tensor | None, c: ModelConfig, x: Tensor) -> Tensor:
    return x if norm is None else F.rms_norm(x, norm.shape, norm, c.rms_norm_eps)


def _round_up(length: int) -> int:
    return -(-length // _ROOM) * _ROOM
