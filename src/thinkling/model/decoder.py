"""A dense decoder whose parameters have exactly Hugging Face's names. What differs between families is in families/.

Shapes: B rows, T positions, N = B·T tokens, D hidden, H query heads, K key/value heads, C head dim, F ffn, V vocab.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thinkling.model.attention import DocumentLayout, packed_attention
from thinkling.model.config import ModelConfig
from thinkling.model.fused import AttentionHalf, MLPHalf, RMSNormFunction, supports
from thinkling.model.rotary import Rotary, rotate

MUCH_PADDING, LEAST_PADDING = 0.05, 32
"""Share of a batch, and tokens, above which a CPU leaves padding out. Below, gathering documents by length costs more:
break-even lies at 1 to 6%, by the lengths, and a batch pays a millisecond, as much as 20 tokens of 0.3M parameters."""


def _on_cpu(x: Tensor) -> bool:
    """Whether the hand-written CPU halves serve this tensor; elsewhere plain operations do, which compile well."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class RMSNorm(nn.Module):
    """x / rms(x) × weight over the last dimension (arXiv 1910.07467); statistics in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if _on_cpu(x) and x.ndim == 2:
            return RMSNormFunction.apply(x, self.weight, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; queries, keys and values come out of one product over three parameters."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, c, features = config.hidden_size, config.head_dim, config.features
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, c
        self.q_proj = nn.Linear(d, self.heads * c, bias=features.qkv_bias)
        self.k_proj = nn.Linear(d, self.kv_heads * c, bias=features.qkv_bias)
        self.v_proj = nn.Linear(d, self.kv_heads * c, bias=features.qkv_bias)
        self.o_proj = nn.Linear(self.heads * c, d, bias=False)
        self.qk_norm, self.qkv_bias = features.head_norms, features.qkv_bias
        if self.qk_norm:
            self.q_norm = RMSNorm(c, config.rms_norm_eps)
            self.k_norm = RMSNorm(c, config.rms_norm_eps)

    def forward(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        shape = (*layout.positions_BT.shape, self.heads + 2 * self.kv_heads, self.head_dim)
        weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        bias = torch.cat((self.q_proj.bias, self.k_proj.bias, self.v_proj.bias)) if self.qkv_bias else None
        qkv = F.linear(x_ND, weight, bias).view(shape)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(x, rotary.cos_BTC, rotary.sin_BTC) for x in (q, k))
        o = packed_attention(q, k, v, layout)
        return self.o_proj(o.reshape(len(x_ND), -1))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202); gate and up come out of one product over two parameters."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        weight = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = F.linear(x_ND, weight).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class DecoderLayer(nn.Module):
    """Attention and SwiGLU, each added to the residual stream, with norms where the family has them."""

    input_layernorm: RMSNorm
    post_attention_layernorm: RMSNorm

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.norms = config.features.norms
        for name in self.norms.present():
            setattr(self, name, RMSNorm(config.hidden_size, config.rms_norm_eps))
        self.fused = supports(config)

    def forward(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        if self.fused and _on_cpu(x_ND):
            return self._forward_cpu(x_ND, rotary, layout)
        return self.forward_plain(x_ND, rotary, layout)

    def forward_plain(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        """The same by plain operations, on any device and for every family."""
        norms = self.norms
        attended = self.self_attn(self._normed(norms.before_attention, x_ND), rotary, layout)
        x_ND = x_ND + self._normed(norms.after_attention, attended)
        return x_ND + self._normed(norms.after_mlp, self.mlp(self._normed(norms.before_mlp, x_ND)))

    def _normed(self, name: str | None, x_ND: Tensor) -> Tensor:
        return x_ND if name is None else getattr(self, name)(x_ND)

    def _forward_cpu(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        attention, mlp = self.self_attn, self.mlp
        head_norms = (attention.q_norm.weight, attention.k_norm.weight) if attention.qk_norm else (None, None)
        x_ND = AttentionHalf.apply(
            x_ND,
            self.input_layernorm.weight,
            attention.q_proj.weight,
            attention.k_proj.weight,
            attention.v_proj.weight,
            attention.o_proj.weight,
            *head_norms,
            attention.head_dim,
            self.input_layernorm.eps,
            rotary,
            layout.plan,
        )
        weights = (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
        norm = self.post_attention_layernorm
        return MLPHalf.apply(x_ND, norm.weight, *weights, norm.eps)


class Backbone(nn.Module):
    """Embedding, layers, final norm: Hugging Face's `model.` prefix. Its forward is `Decoder.forward`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.known_vocab_size, config.hidden_size)
        layer = config.features.layer or (lambda config, number: DecoderLayer(config))
        self.layers = nn.ModuleList(layer(config, number) for number in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """The language model. Call it for hidden states; loss functions take those and `output_weight`."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are torch's own; call `init_weights`, or load. Raises UserError where `vocab_size` is unknown."""
        super().__init__()
        self.config = config
        self.embedding_scale = config.features.embedding_scale
        self.model = Backbone(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.known_vocab_size, bias=False)

    @property
    def output_weight(self) -> Tensor:
        """The head's weight, (V, D): `lm_head.weight`, or the embedding's where tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def forward(self, tokens_BT: Tensor, layout: DocumentLayout | None = None) -> Tensor:
        """Final-normed hidden states x_BTD of int64 tokens; without a layout each row is one document.

        States of padding are finite and mean nothing. On a CPU they are not computed where there is much padding.
        """
        rows, length = tokens_BT.shape
        if layout is None:
            layout = DocumentLayout.from_lengths([[length]] * rows, length, tokens_BT.device)
        enough = max(LEAST_PADDING, MUCH_PADDING * rows * length)
        if tokens_BT.device.type == "cpu" and enough < layout.padding < rows * length:
            bare_layout, inside_N = layout.without_padding
            x_ND = self._layers(tokens_BT.flatten()[inside_N], bare_layout)
            x_ND = x_ND.new_zeros(rows * length, x_ND.shape[1]).index_copy(0, inside_N, x_ND)
        else:
            x_ND = self._layers(tokens_BT.flatten(), layout)
        return x_ND.view(rows, length, -1)

    def _layers(self, tokens_N: Tensor, layout: DocumentLayout) -> Tensor:
        rotary = Rotary.at(layout.positions_BT, self.config)
        x_ND = self.model.embed_tokens(tokens_N)
        if self.embedding_scale != 1.0:
            x_ND = x_ND * self.embedding_scale
        for layer in self.model.layers:
            x_ND = layer(x_ND, rotary, layout)
        return self.model.norm(x_ND)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (…, V) of hidden states (…, D), in their dtype."""
        return F.linear(x, self.output_weight)

    def set_rope_theta(self, theta: float) -> None:
        """Changes the rotary base from the next forward on (ABF); `config` becomes a copy with it."""
        self.config = self.config.model_copy(update={"rope_theta": float(theta)})

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights afresh, in the order of `named_parameters`, by `config.init`; norms become 1, biases 0."""
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith(".bias") else 1.0)
            else:
                weight.normal_(0.0, self._init_std(name, weight), generator=generator)

    def _init_std(self, name: str, weight: Tensor) -> float:
        if self.config.init == "normal":
            return self.config.initializer_range
        if name.endswith("embed_tokens.weight"):
            return 0.5 / math.sqrt(self.config.hidden_size)
        scale = 0.3 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        return scale / math.sqrt(weight.shape[1])
