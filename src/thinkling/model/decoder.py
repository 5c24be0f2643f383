"""A dense decoder whose parameters have exactly Hugging Face's names. families/ defines how each model family differs
from Llama.

Shapes: B rows, T positions, N = B·T tokens, D hidden, H query heads, K key/value heads, C head dim, F ffn, V vocab.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thinkling.model.attention import DocumentLayout, packed_attention, soft_capped
from thinkling.model.config import LoraConfig, ModelConfig
from thinkling.model.families.base import LayerKind
from thinkling.model.float8 import Float8Linear, float8_linear
from thinkling.model.fused import AttentionHalf, MLPHalf, RMSNormFunction, supports
from thinkling.model.loss import CappedHead
from thinkling.model.rotary import Rotary, rotate

MUCH_PADDING, LEAST_PADDING = 0.05, 32
"""On a CPU, padding is skipped if it exceeds both this share of the batch and this number of tokens. With less padding,
gathering the documents costs more than it saves. Gathering breaks even at 1 to 6% of padding, depending on the lengths,
and takes about a millisecond per batch, which is the time for 20 tokens at 0.3M parameters."""


def _on_cpu(x: Tensor) -> bool:
    """Whether to use the hand-written CPU code for this tensor. Otherwise plain operations are used, which
    torch.compile handles well."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _projections(x_ND: Tensor, *linears: nn.Linear) -> tuple[Tensor, ...]:
    """Returns the projections of x. They are computed in one matrix product if copying the weights, which that needs,
    moves fewer bytes than reading x for each of them. Layers with adapters, or only some of which use fp8, are called
    one by one."""
    first, sizes = linears[0], [linear.out_features for linear in linears]
    in_float8 = isinstance(first, Float8Linear)
    different = any(type(linear) is not (Float8Linear if in_float8 else nn.Linear) for linear in linears)
    if different or (not _on_cpu(x_ND) and len(x_ND) * (len(sizes) - 1) <= 2 * sum(sizes)):
        return tuple(linear(x_ND) for linear in linears)
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    weights: list[Tensor] = [linear.weight for linear in linears]
    weight, bias = torch.cat(weights), torch.cat(biases) if biases else None
    y = float8_linear(x_ND, weight, bias, first.recipe) if in_float8 else F.linear(x_ND, weight, bias)
    return y.split(sizes, -1)


class RMSNorm(nn.Module):
    """x / rms(x) × (offset + weight) over the last dimension (arXiv 1910.07467); statistics in fp32."""

    def __init__(self, size: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1.0 - offset))
        self.eps, self.offset = eps, offset

    def forward(self, x: Tensor) -> Tensor:
        if _on_cpu(x) and x.ndim == 2:
            return RMSNormFunction.apply(x, self.weight + self.offset if self.offset else self.weight, self.eps)
        if self.offset:  # in bf16, the sum would lose bits of the weight
            return F.rms_norm(x.float(), self.weight.shape, self.weight.float() + self.offset, self.eps).type_as(x)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def _norm(size: int, config: ModelConfig) -> RMSNorm:
    return RMSNorm(size, config.rms_norm_eps, config.features.norm_offset)


class Attention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, config: ModelConfig, kind: LayerKind | None = None) -> None:
        super().__init__()
        d, c, features = config.hidden_size, config.head_dim, config.features
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, c
        self.fused_projections = features.fused_projections
        if features.fused_projections:
            self.qkv_proj = nn.Linear(d, (self.heads + 2 * self.kv_heads) * c, bias=features.qkv_bias)
        else:
            self.q_proj = nn.Linear(d, self.heads * c, bias=features.qkv_bias)
            self.k_proj = nn.Linear(d, self.kv_heads * c, bias=features.qkv_bias)
            self.v_proj = nn.Linear(d, self.kv_heads * c, bias=features.qkv_bias)
        self.o_proj = nn.Linear(self.heads * c, d, bias=False)
        self.qk_norm, self.row_norms = features.head_norms, features.row_norms
        if self.qk_norm or self.row_norms:
            self.q_norm = _norm(self.heads * c if self.row_norms else c, config)
            self.k_norm = _norm(self.kv_heads * c if self.row_norms else c, config)
        # packed_attention multiplies by 1/√C, so the queries are multiplied by the remaining factor of the scale.
        self.query_scale = None if features.attention_scale is None else features.attention_scale * math.sqrt(c)
        self.window, self.softcap = (kind or LayerKind()).window, features.attention_softcap

    @property
    def projections(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of queries, keys and values."""
        if self.fused_projections:
            sizes = [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)]
            q, k, v = self.qkv_proj.weight.split(sizes)
            return q, k, v
        return self.q_proj.weight, self.k_proj.weight, self.v_proj.weight

    def _projected(self, x_ND: Tensor) -> tuple[Tensor, ...]:
        """Returns queries, keys and values (N, heads · C)."""
        if self.fused_projections:
            sizes = [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)]
            return self.qkv_proj(x_ND).split(sizes, -1)
        return _projections(x_ND, self.q_proj, self.k_proj, self.v_proj)

    def forward(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        rows, length = layout.positions_BT.shape
        q, k, v = (x.view(rows, length, -1, self.head_dim) for x in self._projected(x_ND))
        if self.row_norms:
            q, k = (norm(x.flatten(2)).view_as(x) for norm, x in ((self.q_norm, q), (self.k_norm, k)))
        elif self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(x, rotary.cos_BTC, rotary.sin_BTC) for x in (q, k))
        if self.query_scale is not None:
            q = q * self.query_scale
        o = packed_attention(q, k, v, layout, self.window, self.softcap)
        return self.o_proj(o.reshape(len(x_ND), -1))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202) or a variant with a different gate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, f, features = config.hidden_size, config.intermediate_size, config.features
        self.fused_projections = features.fused_projections
        if self.fused_projections:
            self.gate_up_proj = nn.Linear(d, 2 * f, bias=False)
        else:
            self.gate_proj = nn.Linear(d, f, bias=False)
            self.up_proj = nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)
        self.gelu = features.activation == "gelu_tanh"

    @property
    def projections(self) -> tuple[Tensor, Tensor]:
        """The weights of gate and up."""
        if self.fused_projections:
            gate, up = self.gate_up_proj.weight.chunk(2)
            return gate, up
        return self.gate_proj.weight, self.up_proj.weight

    def forward(self, x_ND: Tensor) -> Tensor:
        if self.fused_projections:
            gate, up = self.gate_up_proj(x_ND).chunk(2, dim=-1)
        else:
            gate, up = _projections(x_ND, self.gate_proj, self.up_proj)
        return self.down_proj((F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)) * up)


class DecoderLayer(nn.Module):
    """Attention and SwiGLU, each added to the residual stream, with the family's norms."""

    input_layernorm: RMSNorm
    post_attention_layernorm: RMSNorm

    def __init__(self, config: ModelConfig, number: int = 0) -> None:
        super().__init__()
        features = config.features
        self.self_attn = Attention(config, features.kind(number))
        self.mlp = MLP(config)
        self.norms, self.residual_scale = features.norms, features.residual_scale
        for name in self.norms.present():
            setattr(self, name, _norm(config.hidden_size, config))
        self.fused = supports(config)

    def forward(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        window = self.self_attn.window
        if self.fused and _on_cpu(x_ND) and (window is None or window >= layout.longest):
            return self._forward_cpu(x_ND, rotary, layout)
        return self.forward_plain(x_ND, rotary, layout)

    def forward_plain(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        """Computes the layer with plain operations, for any device and family."""
        norms = self.norms
        attended = self.self_attn(self._normed(norms.before_attention, x_ND), rotary, layout)
        x_ND = x_ND + self._scaled(self._normed(norms.after_attention, attended))
        return x_ND + self._scaled(self._normed(norms.after_mlp, self.mlp(self._normed(norms.before_mlp, x_ND))))

    def _scaled(self, x_ND: Tensor) -> Tensor:
        return x_ND if self.residual_scale == 1.0 else x_ND * self.residual_scale

    def _normed(self, name: str | None, x_ND: Tensor) -> Tensor:
        return x_ND if name is None else getattr(self, name)(x_ND)

    def _forward_cpu(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        attention, mlp = self.self_attn, self.mlp
        head_norms = (attention.q_norm.weight, attention.k_norm.weight) if attention.qk_norm else (None, None)
        x_ND = AttentionHalf.apply(
            x_ND,
            self.input_layernorm.weight,
            *attention.projections,
            attention.o_proj.weight,
            *head_norms,
            attention.head_dim,
            self.input_layernorm.eps,
            rotary,
            layout.plan,
        )
        norm = self.post_attention_layernorm
        return MLPHalf.apply(x_ND, norm.weight, *mlp.projections, mlp.down_proj.weight, norm.eps)


class Backbone(nn.Module):
    """Embedding, layers and final norm, whose parameters have Hugging Face's prefix `model.`. `Decoder.forward` calls
    these modules."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.known_vocab_size, config.hidden_size)
        layer = config.features.layer or DecoderLayer
        self.layers = nn.ModuleList(layer(config, number) for number in range(config.num_hidden_layers))
        self.norm = _norm(config.hidden_size, config)


class Decoder(nn.Module):
    """The language model. Calling it returns hidden states; loss functions take hidden states and `output_weight`."""

    lora: LoraConfig | None
    """Settings of the model's adapters, if it has adapters (lora.py)."""

    def __init__(self, config: ModelConfig) -> None:
        """Leaves the weights at torch's default initialization; call `init_weights` or load weights. Raises UserError
        if `vocab_size` is unknown."""
        super().__init__()
        self.config = config
        self.lora: LoraConfig | None = None
        features = config.features
        self.embedding_scale = features.embedding_scale
        self.logit_scale, self.logit_softcap = features.logit_scale, features.logit_softcap
        self.rotary_kinds = [features.kind(number).rotary for number in range(config.num_hidden_layers)]
        self.model = Backbone(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.known_vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """The weight of the head, (V, D): `lm_head.weight`, or the weight of the embedding if they are tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    @property
    def output_weight(self) -> Any:
        """The head in the form that losses take: the head's weight, or a `CappedHead` if logits have a soft cap."""
        return self.head if self.logit_softcap is None else CappedHead(self.head, self.logit_softcap)

    def forward(self, tokens_BT: Tensor, layout: DocumentLayout | None = None) -> Tensor:
        """Returns hidden states x_BTD after the final norm. Tokens are int64; without a layout, a row is one document.

        The states are scaled as the head expects (`Features.logit_scale`). States of padding are finite but
        meaningless; on a CPU, they are not computed if there is much padding.
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
        rotary = {kind: Rotary.at(layout.positions_BT, self.config, kind) for kind in set(self.rotary_kinds)}
        x_ND = self.model.embed_tokens(tokens_N)
        if self.embedding_scale != 1.0:
            x_ND = x_ND * torch.tensor(self.embedding_scale, dtype=x_ND.dtype, device=x_ND.device)
        for layer, kind in zip(self.model.layers, self.rotary_kinds, strict=True):
            x_ND = layer(x_ND, rotary[kind], layout)
        x_ND = self.model.norm(x_ND)
        return x_ND if self.logit_scale == 1.0 else x_ND * self.logit_scale

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (…, V) of hidden states (…, D), in the dtype of the states."""
        logits = F.linear(x, self.head)
        return logits if self.logit_softcap is None else soft_capped(logits, self.logit_softcap)

    def set_rope_theta(self, theta: float) -> None:
        """Changes the rotary base (ABF), starting with the next forward pass. `config` is replaced by a copy."""
        self.config = self.config.model_copy(update={"rope_theta": float(theta)})

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights according to `config.init`, in the order of `named_parameters`. Norms are initialised to a
        scale of 1 and biases to 0."""
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith(".bias") else 1.0 - self.config.features.norm_offset)
            else:
                weight.normal_(0.0, self._init_std(name, weight), generator=generator)

    def _init_std(self, name: str, weight: Tensor) -> float:
        if self.config.init == "normal":
            return self.config.initializer_range
        if name.endswith("embed_tokens.weight"):
            return 0.5 / math.sqrt(self.config.hidden_size)
        scale = 0.3 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        return scale / math.sqrt(weight.shape[1])
