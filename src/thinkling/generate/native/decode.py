"""The native engine's forward: a snapshot of the weights, a static key/value cache, prefill and one-token decode.

Shapes: B active rows, T positions, D hidden, H query heads, K key/value heads, G = H / K, C head dim, F ffn, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.rotary import family_tables

_ROOM = 32
"""Cache positions added at a time; a multiple keeps rows aligned."""
_FEATURES = frozenset({"qkv_bias", "head_norms", "embedding_scale", "rotary"})
"""Those of model/families/base.py that this forward computes."""


def supports(config: ModelConfig) -> bool:
    """Whether this forward computes what the decoder does."""
    return config.features.used() <= _FEATURES


@dataclass
class LayerWeights:
    """One layer, projections of the same input fused, matrices as (out, in)."""

    qkv: Tensor
    qkv_bias: Tensor | None
    o: Tensor
    gate_up: Tensor
    down: Tensor
    norm: Tensor
    mlp_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


class Weights:
    """Copies of a decoder's weights. Training goes on without touching them until the next `refresh`."""

    def __init__(self, model: Decoder, dtype: torch.dtype) -> None:
        """Raises UserError if the decoder's family has a feature that this forward lacks."""
        if not supports(model.config):
            missing = ", ".join(sorted(model.config.features.used() - _FEATURES))
            raise UserError(
                f"model.architecture {model.config.architecture!r}: the native engine does not support its {missing}; "
                f"sample from the exported model with another engine, such as vLLM"
            )
        self.dtype = dtype
        self.refresh(model)

    @torch.no_grad()
    def refresh(self, model: Decoder) -> None:
        """Takes over weights, rotary base and device as they are now."""
        self.config: ModelConfig = model.config
        self.embedding_scale = model.embedding_scale
        self.device = model.output_weight.device
        parameters = dict(model.named_parameters())

        def copy(*names: str, kind: str = "weight") -> Tensor:
            return torch.cat([parameters[f"{name}.{kind}"].to(self.dtype) for name in names])  # cat always copies

        self.embedding = copy("model.embed_tokens")
        self.head = self.embedding if model.config.tie_word_embeddings else copy("lm_head")
        self.norm = copy("model.norm")
        self.layers = [self._layer(copy, f"model.layers.{i}") for i in range(model.config.num_hidden_layers)]

    def _layer(self, copy: Callable[..., Tensor], layer: str) -> LayerWeights:
        attention, mlp, features = f"{layer}.self_attn", f"{layer}.mlp", self.config.features
        projections = [f"{attention}.{name}_proj" for name in "qkv"]
        return LayerWeights(
            qkv=copy(*projections),
            qkv_bias=copy(*projections, kind="bias") if features.qkv_bias else None,
            o=copy(f"{attention}.o_proj"),
            gate_up=copy(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
            down=copy(f"{mlp}.down_proj"),
            norm=copy(f"{layer}.input_layernorm"),
            mlp_norm=copy(f"{layer}.post_attention_layernorm"),
            q_norm=copy(f"{attention}.q_norm") if features.head_norms else None,
            k_norm=copy(f"{attention}.k_norm") if features.head_norms else None,
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """What enters the first layer, (…, D)."""
        x = F.embedding(tokens, self.embedding)
        return x if self.embedding_scale == 1.0 else x * self.embedding_scale


class Cache:
    """Keys and values of up to `rows` sequences, (layers, 2, rows, K, T, C). Active rows are always the first ones.

    T grows as sequences do. Every entry is finite at all times, because what lies beyond a sequence's end still enters
    a product, with weight 0.
    """

    def __init__(self, weights: Weights, rows: int, length: int) -> None:
        c = weights.config
        shape = (c.num_hidden_layers, 2, rows, c.num_key_value_heads, _round_up(length), c.head_dim)
        self.kv = torch.zeros(shape, dtype=weights.dtype, device=weights.device)
        self._extend_tables(weights)

    @property
    def rows(self) -> int:
        return self.kv.shape[2]

    @property
    def length(self) -> int:
        return self.kv.shape[4]

    def reserve(self, weights: Weights, length: int, limit: int) -> None:
        """Makes room for `length` positions, at once half as many again, though no more than `limit`."""
        if length > self.length:
            old = self.kv
            new_length = _round_up(min(max(length, self.length * 3 // 2), limit))
            self.kv = old.new_zeros((*old.shape[:4], new_length, old.shape[5]))
            self.kv[:, :, :, :, : old.shape[4]] = old
            self._extend_tables(weights)

    def move(self, source: np.ndarray, target: np.ndarray, length: int) -> None:
        """Copies the first `length` positions of rows `source` over rows `target`."""
        to, of = (torch.from_numpy(rows).to(self.kv.device) for rows in (target, source))
        self.kv[:, :, to, :, :length] = self.kv[:, :, of, :, :length]

    def _extend_tables(self, weights: Weights) -> None:
        positions = torch.arange(self.length, device=weights.device)
        cos, sin = family_tables(positions, weights.config)
        self.cos, self.sin = cos.to(weights.dtype), sin.to(weights.dtype)


def prefill(weights: Weights, cache: Cache, tokens_BT: Tensor, rows_of: list[list[int]]) -> None:
    """Writes keys and values of whole prompts, right-padded to T, into the cache.

    Prompt b goes to rows `rows_of[b]`: samples of one problem share one forward. Attention is causal, so padding
    reaches no prompt; its own keys are overwritten or masked later.
    """
    c = weights.config
    rows, length = tokens_BT.shape
    heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
    source = torch.tensor([b for b, targets in enumerate(rows_of) for _ in targets], device=weights.device)
    target = torch.tensor([row for targets in rows_of for row in targets], device=weights.device)
    cos, sin = cache.cos[:length, None], cache.sin[:length, None]
    x = weights.embed(tokens_BT)
    for number, w in enumerate(weights.layers):
        qk, v = _project(w, c, x, cos, sin)
        q, k = qk.split((heads, kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        cache.kv[number, 0, target, :, :length] = k[source]
        cache.kv[number, 1, target, :, :length] = v[source]
        if number + 1 < len(weights.layers):  # the last layer's output is not needed: no token is drawn here
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
            x = _finish_layer(w, c, x.view(rows * length, -1), o.transpose(1, 2).reshape(rows * length, -1))
            x = x.view(rows, length, -1)


def decode(weights: Weights, cache: Cache, tokens_B: Tensor, positions: np.ndarray) -> Tensor:
    """Logits (B, V) after one more token of each active row, whose keys and values go to the cache.

    `positions`: int64 (B,), where each token stands in its sequence; row b attends to positions 0 … positions[b].
    """
    c = weights.config
    n, heads, kv_heads, channels = len(positions), c.num_attention_heads, c.num_key_value_heads, c.head_dim
    reach = int(positions.max()) + 1
    where = torch.from_numpy(positions).to(weights.device)
    cos, sin = cache.cos[where].unsqueeze(1), cache.sin[where].unsqueeze(1)
    # Flat index of (row, head, position) within one layer's keys, (B, K).
    row_heads = torch.arange(n * kv_heads, device=weights.device).view(n, kv_heads)
    slots = (row_heads * cache.length + where.unsqueeze(1)).flatten()
    bias = None
    if int(positions.min()) + 1 < reach:
        beyond = torch.arange(reach, device=weights.device) > where.unsqueeze(1)
        bias = torch.zeros(n, reach, dtype=weights.dtype, device=weights.device).masked_fill_(beyond, -torch.inf)
        bias = bias.repeat_interleave(kv_heads, 0).unsqueeze(1)
    scale = channels**-0.5
    x = weights.embed(tokens_B)
    for w, kv in zip(weights.layers, cache.kv, strict=True):
        qk, v = _project(w, c, x, cos, sin)
        kv[0].view(-1, channels).index_copy_(0, slots, qk[:, heads:].reshape(-1, channels))
        kv[1].view(-1, channels).index_copy_(0, slots, v.reshape(-1, channels))
        keys, values = kv[:, :n].flatten(1, 2)[:, :, :reach]
        q = qk[:, :heads].reshape(n * kv_heads, -1, channels)
        # Two batched products beat scaled_dot_product_attention at query length 1 on CPU (3 to 5 times, measured).
        if bias is None:
            scores = torch.bmm(q, keys.transpose(1, 2)).mul_(scale)
        else:
            scores = torch.baddbmm(bias, q, keys.transpose(1, 2), alpha=scale)
        weight = torch.softmax(scores, dim=-1, dtype=torch.float32).to(weights.dtype)
        x = _finish_layer(w, c, x, torch.bmm(weight, values).view(n, -1))
    return F.linear(F.rms_norm(x, weights.norm.shape, weights.norm, c.rms_norm_eps), weights.head)


def _project(w: LayerWeights, c: ModelConfig, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated queries and keys (…, H + K, C), and values (…, K, C), of x (…, D)."""
    heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
    qkv = F.linear(F.rms_norm(x, w.norm.shape, w.norm, c.rms_norm_eps), w.qkv, w.qkv_bias)
    qkv = qkv.unflatten(-1, (heads + 2 * kv_heads, c.head_dim))
    qk, v = qkv.split((heads + kv_heads, kv_heads), dim=-2)
    if w.q_norm is not None and w.k_norm is not None:
        q, k = qk.split((heads, kv_heads), dim=-2)
        q = F.rms_norm(q, w.q_norm.shape, w.q_norm, c.rms_norm_eps)
        qk = torch.cat((q, F.rms_norm(k, w.k_norm.shape, w.k_norm, c.rms_norm_eps)), dim=-2)
    first, second = qk.chunk(2, dim=-1)
    turned = torch.empty_like(qk, memory_format=torch.contiguous_format)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=turned_first)
    turned_first.addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned_second)
    turned_second.addcmul_(first, sin)
    return turned, v


def _finish_layer(w: LayerWeights, c: ModelConfig, x: Tensor, o: Tensor) -> Tensor:
    """Output projection of the heads' outputs (N, H·C), residual x (N, D), SwiGLU."""
    x = torch.addmm(x, o, w.o.t())
    hidden = F.linear(F.rms_norm(x, w.mlp_norm.shape, w.mlp_norm, c.rms_norm_eps), w.gate_up)
    gate, up = hidden.chunk(2, dim=-1)
    return torch.addmm(x, F.silu(gate).mul_(up), w.down.t())


def _round_up(length: int) -> int:
    return -(-length // _ROOM) * _ROOM
