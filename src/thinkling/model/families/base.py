"""Interface of a decoder family. The defaults are Llama's, so a family defines only its differences.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thinkling.errors import UserError
from thinkling.model.rope import read_rope, write_rope

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

Setting = bool | int | float | str | None | list[int] | list[str]
"""Type of an entry of config.json that only some families have."""
_REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class NormNames:
    """Hugging Face's names of a layer's RMSNorms, by position. None means that the position has no norm.

    A norm "before" a block normalizes the block's input; a norm "after" a block normalizes the block's output before
    the residual addition.
    """

    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None

    def present(self) -> list[str]:
        """Returns the names of the norms, in the order of the forward pass."""
        places = (self.before_attention, self.after_attention, self.before_mlp, self.after_mlp)
        return [name for name in places if name is not None]


@dataclass(frozen=True)
class LayerKind:
    """The attention of a layer, for models whose layers differ."""

    rotary: Literal["global", "local", "none"] = "global"
    """`global`: the rotary embedding of the configuration. `local`: an unscaled rotary embedding with the base
    `Features.local_rope_theta`. `none`: no rotary embedding (NoPE, arXiv 2501.18795)."""
    window: int | None = None
    """Number of tokens visible to a query, including the query's own token. None means all earlier tokens."""


@dataclass(frozen=True)
class Features:
    """The differences between a decoder and Llama's.

    decoder.py implements every feature. Each fast path lists the features that it supports; decoders with other
    features use the plain forward pass, so that a feature added here is never silently ignored.
    """

    qkv_bias: bool = False
    """Whether the projections of queries, keys and values have biases."""
    head_norms: bool = False
    """Whether an RMSNorm is applied to the queries and keys of each head, before the rotary embedding."""
    row_norms: bool = False
    """Whether one RMSNorm is applied to the queries of all heads together and a second one to the keys of all heads
    together, before the rotary embedding."""
    norms: NormNames = field(default_factory=NormNames)
    norm_offset: float = 0.0
    """Constant added to the weight of every RMSNorm. It is 1 if the files store the weights minus 1."""
    fused_projections: bool = False
    """Whether there is a single parameter `qkv_proj` for queries, keys and values, and a single `gate_up_proj`, as in
    the family's files."""
    activation: Literal["silu", "gelu_tanh"] = "silu"
    """Activation function of the gate."""
    embedding_scale: float = 1.0
    """Factor by which the embeddings are multiplied at the input of the first layer, rounded to the dtype of the
    embeddings. A tied output head is not scaled."""
    residual_scale: float = 1.0
    """Factor by which the output of each block is multiplied before the residual addition."""
    attention_scale: float | None = None
    """Factor by which the products of queries and keys are multiplied; None: 1/√head_dim."""
    attention_softcap: float | None = None
    """Soft cap of attention: scaled products x of queries and keys are replaced by cap · tanh(x / cap)."""
    logit_scale: float = 1.0
    """Factor by which the logits are multiplied. The decoder applies the factor to the final hidden states, so losses
    do not depend on it."""
    logit_softcap: float | None = None
    """Soft cap of the logits: logits x are replaced by cap · tanh(x / cap)."""
    layer_kinds: tuple[LayerKind, ...] = ()
    """The kind of each layer; if empty, every layer is `LayerKind()`."""
    local_rope_theta: float = 1e4
    """Base of the rotary embedding in layers of kind `local`."""
    partial_rotary_factor: float = 1.0
    """Fraction of each head's channels, counted from the first, that the rotary embedding rotates."""
    rotary: Callable[[ModelConfig, Any], Any] | None = None
    """Function that replaces `rotary_tables` for frequencies that `ModelConfig.rope_scaling` cannot express. It takes
    the config and int64 positions, and returns the tables (cos, sin) in the shapes of `rotary_tables`. A factor on
    attention must be applied to both tables."""
    layer: Callable[[ModelConfig, int], Any] | None = None
    """Function that builds layer number i as a module with `forward(x_ND, rotary, layout) -> x_ND`. The module replaces
    `DecoderLayer`, for layers that no other feature expresses. Import torch inside the function, because recipes are
    checked without importing torch."""
    extra_layer_parameters: int = 0
    """Number of parameters per layer that the fields above do not imply, such as those of a custom `layer`."""

    def used(self) -> frozenset[str]:
        """Returns the names of the features that differ from Llama's."""
        changed = {f.name for f in fields(self) if getattr(self, f.name) != getattr(_LLAMA, f.name)}
        return frozenset(changed - {"extra_layer_parameters", "local_rope_theta"})

    def kind(self, number: int) -> LayerKind:
        """Returns the kind of layer `number`."""
        return self.layer_kinds[number] if self.layer_kinds else LayerKind()


_LLAMA = Features()


def llama_features(config: ModelConfig) -> Features:
    """Returns the features of Llama, for families without differences."""
    return _LLAMA


def read_fields(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns the fields of a ModelConfig from a config.json (`raw`, read from `path`), with Llama's defaults.

    Raises UserError if a required field is missing, or if an unsupported setting would change the logits.
    """
    _refuse_unsupported(raw, path)
    for name in _REQUIRED:
        if not isinstance(raw.get(name), int):
            raise UserError(f"{path}: {name} is missing or not an integer; correct the file")
    theta, scaling = read_rope(raw, path)
    return {name: raw[name] for name in _REQUIRED} | {
        "num_key_value_heads": raw.get("num_key_value_heads") or raw["num_attention_heads"],
        "head_dim": raw.get("head_dim") or raw["hidden_size"] // max(raw["num_attention_heads"], 1),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "rms_norm_eps": raw.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": raw.get("tie_word_embeddings", False),
        "max_position_embeddings": raw.get("max_position_embeddings", 4096),
        "initializer_range": raw.get("initializer_range", 0.02),
    }


def write_fields(config: ModelConfig) -> dict[str, Any]:
    """Returns the entries of config.json that do not depend on the family, in transformers' format."""
    return {
        "vocab_size": config.known_vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        **write_rope(config.rope_theta, config.rope_scaling),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_dropout": 0.0,
        "initializer_range": config.initializer_range,
        "use_cache": True,
    }


def no_biases(config: ModelConfig) -> dict[str, Any]:
    """Returns `write_fields` with entries that declare all projections bias-free, for transformers classes that read
    these entries."""
    return write_fields(config) | {"attention_bias": False, "mlp_bias": False}


NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""Entries of config.json that a family's `write` returns if transformers would otherwise fill in default ids, which may
not exist in the vocabulary. The tokenizer's ids replace these entries."""


@dataclass(frozen=True)
class Family:
    """A decoder family, registered under its model type (see `FAMILIES`). docs/ARCHITECTURE.md shows how to add a
    family."""

    model_type: str
    """`model_type` in config.json, and `architecture` in a recipe."""
    class_name: str
    """Name of the class in transformers, such as LlamaForCausalLM, for `architectures` in config.json."""
    features: Callable[[ModelConfig], Features] = llama_features
    read: Callable[[Mapping[str, Any], Path], dict[str, Any]] = read_fields
    """Function that converts the content and path of a config.json to the fields of a ModelConfig. It raises UserError
    for unsupported settings."""
    write: Callable[[ModelConfig], dict[str, Any]] = no_biases
    """The inverse of `read`: a function that returns the entries of config.json, without `model_type` and
    `architectures`. The entries override `settings`."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Entries of config.json that are specific to this family, with their defaults. These entries are read into
    `ModelConfig.settings`, which `features` uses, and are written to config.json from there. `read` may return other
    `settings`."""

    def setting(self, config: ModelConfig, name: str) -> Any:
        """Returns a setting's value in `config`, or the default."""
        return config.settings.get(name, self.settings[name])


def _refuse_unsupported(raw: Mapping[str, Any], path: Path) -> None:
    """Raises UserError for settings that change the logits and that the decoder does not support."""
    if raw.get("hidden_act", "silu") != "silu":
        raise UserError(f"{path}: hidden_act {raw['hidden_act']!r} is not supported; use a model with silu")
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if any(where.get("partial_rotary_factor", 1.0) != 1.0 for where in (rope, raw)):
        raise UserError(f"{path}: partial_rotary_factor other than 1 is not supported; use a different model")
    for name in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if raw.get(name):
            raise UserError(f"{path}: {name} is not supported; use a different model")
    if raw.get("quantization_config"):
        raise UserError(f"{path}: quantized weights are not supported; use the original weights")
