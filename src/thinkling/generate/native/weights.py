"""The native engine's snapshot of a decoder's weights, laid out for its forward pass.

Shapes: D hidden, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thinkling.model.attention import soft_capped
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.families.base import LayerKind
from thinkling.model.lora import MergedWeights

_FEATURES = frozenset(
    {
        "qkv_bias",
        "head_norms",
        "row_norms",
        "norms",
        "norm_offset",
        "fused_projections",
        "activation",
        "embedding_scale",
        "residual_scale",
        "attention_scale",
        "attention_softcap",
        "logit_scale",
        "logit_softcap",
        "layer_kinds",
        "partial_rotary_factor",
        "rotary",
    }
)
"""Features from model/families/base.py that this forward pass supports: all except a family's custom layer."""


def supports(config: ModelConfig) -> bool:
    """Whether this forward pass supports the model. If not, plain.py samples with the decoder's own forward pass."""
    return config.features.used() <= _FEATURES


@dataclass
class LayerWeights:
    """The weights of one layer. Projections of the same input are fused, matrices have shape (out, in), and the norms'
    weights include the offset."""

    kind: LayerKind
    qkv: Tensor
    qkv_bias: Tensor | None
    o: Tensor
    gate_up: Tensor
    down: Tensor
    norms: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
    """The norms before and after attention, and before and after the SwiGLU; None for a norm that the layer lacks."""
    q_norm: Tensor | None
    k_norm: Tensor | None


class Weights:
    """Copies of a decoder's weights. Training does not change the copies; `refresh` updates them."""

    def __init__(self, model: Decoder, dtype: torch.dtype) -> None:
        """`supports` must be true for the decoder's config."""
        self.dtype = dtype
        self.refresh(model)

    @torch.no_grad()
    def refresh(self, model: Decoder) -> None:
        """Copies the current weights, including adapters, the rotary base and the device."""
        self.config: ModelConfig = model.config
        self.features = model.config.features
        self.device = model.model.embed_tokens.weight.device
        parameters = MergedWeights(model)

        def copy(*names: str, kind: str = "weight") -> Tensor:
            return torch.cat([parameters[f"{name}.{kind}"].to(self.dtype) for name in names])  # cat always copies

        self.embedding = copy("model.embed_tokens")
        self.head = self.embedding if model.config.tie_word_embeddings else copy("lm_head")
        self.norm = self._norm(copy, "model.norm")
        self.layers = [self._layer(copy, i) for i in range(model.config.num_hidden_layers)]
        self.kinds = frozenset(layer.kind for layer in self.layers)
        scale = self.features.embedding_scale
        self._embedding_scale = None if scale == 1.0 else torch.tensor(scale, dtype=self.dtype, device=self.device)

    def _norm(self, copy: Callable[..., Tensor], name: str) -> Tensor:
        weight, offset = copy(name), self.features.norm_offset
        return weight if offset == 0.0 else (weight.float() + offset).to(self.dtype)

    def _layer(self, copy: Callable[..., Tensor], number: int) -> LayerWeights:
        features, layer = self.features, f"model.layers.{number}"
        attention, mlp, names = f"{layer}.self_attn", f"{layer}.mlp", features.norms
        fused, normed = features.fused_projections, features.head_norms or features.row_norms
        projections = [f"{attention}.{name}_proj" for name in (("qkv",) if fused else "qkv")]
        gates = [f"{mlp}.{name}_proj" for name in (("gate_up",) if fused else ("gate", "up"))]
        before, after, before_mlp, after_mlp = (
            None if name is None else self._norm(copy, f"{layer}.{name}")
            for name in (names.before_attention, names.after_attention, names.before_mlp, names.after_mlp)
        )
        return LayerWeights(
            kind=features.kind(number),
            qkv=copy(*projections),
            qkv_bias=copy(*projections, kind="bias") if features.qkv_bias else None,
            o=copy(f"{attention}.o_proj"),
            gate_up=copy(*gates),
            down=copy(f"{mlp}.down_proj"),
            norms=(before, after, before_mlp, after_mlp),
            q_norm=self._norm(copy, f"{attention}.q_norm") if normed else None,
            k_norm=self._norm(copy, f"{attention}.k_norm") if normed else None,
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns the input of the first layer, (…, D)."""
        x = F.embedding(tokens, self.embedding)
        return x if self._embedding_scale is None else x * self._embedding_scale

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (…, V) from the output of the last layer."""
        features = self.features
        x = F.rms_norm(x, self.norm.shape, self.norm, self.config.rms_norm_eps)
        logits = F.linear(x if features.logit_scale == 1.0 else x * features.logit_scale, self.head)
        return logits if features.logit_softcap is None else soft_capped(logits, features.logit_softcap)
