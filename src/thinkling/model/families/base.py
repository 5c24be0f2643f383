"""What a family can define. The defaults are Llama's; a family lists only its differences. Does not load torch."""

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
"""An entry of config.json that only some families have."""
_REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class NormNames:
    """Hugging Face's names of a layer's RMSNorms, by position; None: no norm there.

    "Before" normalizes the input of a block, "after" its output, before the residual addition.
    """

    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None

    def present(self) -> list[str]:
        """The names, in the order of the forward pass."""
        places = (self.before_attention, self.after_attention, self.before_mlp, self.after_mlp)
        return [name for name in places if name is not None]


@dataclass(frozen=True)
class LayerKind:
    """How a layer's attention works, for models with alternating layers."""

    rotary: Literal["global", "local", "none"] = "global"
    """`global`: the rotary embedding of the configuration; `local`: unscaled, with `Features.local_rope_theta`;
    `none`: no position in queries and keys (NoPE, arXiv 2501.18795)."""
    window: int | None = None
    """Tokens visible to a query, itself included; None: all earlier ones."""


@dataclass(frozen=True)
class Features:
    """How a decoder differs from Llama's.

    decoder.py implements every feature. A fast path lists the features that it supports and leaves all other decoders
    to the plain forward pass, so a feature added here is never silently ignored.
    """

    qkv_bias: bool = False
    """Whether the projections of queries, keys and values have biases."""
    head_norms: bool = False
    """An RMSNorm over each head's queries and keys, before the rotary embedding."""
    row_norms: bool = False
    """An RMSNorm over the queries of all heads at once, and one over all keys, before the rotary embedding."""
    norms: NormNames = field(default_factory=NormNames)
    norm_offset: float = 0.0
    """Added to the weight of every RMSNorm: 1 if files store the weights minus 1."""
    fused_projections: bool = False
    """A single parameter `qkv_proj` for queries, keys and values, and a single `gate_up_proj`, as in the family's
    files."""
    activation: Literal["silu", "gelu_tanh"] = "silu"
    """Activation of the gate."""
    embedding_scale: float = 1.0
    """Factor on the embeddings at the input of the first layer, rounded to their dtype; a tied output head is not
    scaled."""
    residual_scale: float = 1.0
    """Factor on the output of each block, before the residual addition."""
    attention_scale: float | None = None
    """Factor on the products of queries and keys; None: 1/√head_dim."""
    attention_softcap: float | None = None
    """Soft cap: the scaled products x become cap · tanh(x / cap)."""
    logit_scale: float = 1.0
    """Factor on the logits. The decoder applies it to the final hidden states, so losses need not know about it."""
    logit_softcap: float | None = None
    """Soft cap: the logits x become cap · tanh(x / cap)."""
    layer_kinds: tuple[LayerKind, ...] = ()
    """One per layer; if empty, every layer is `LayerKind()`."""
    local_rope_theta: float = 1e4
    """Base of the rotary embedding in layers of kind `local`."""
    partial_rotary_factor: float = 1.0
    """Fraction of each head's channels, counted from the first, that the rotary embedding rotates."""
    rotary: Callable[[ModelConfig, Any], Any] | None = None
    """Returns (cos, sin) for int64 positions, replacing `rotary_tables` with the same shapes: for frequencies that
    `ModelConfig.rope_scaling` cannot express (a factor on attention goes into both tables)."""
    layer: Callable[[ModelConfig, int], Any] | None = None
    """Builds layer number i as a module with `forward(x_ND, rotary, layout) -> x_ND`, replacing `DecoderLayer`: for
    layers that no other feature expresses. Import torch inside the function: recipes are checked without loading it."""
    extra_layer_parameters: int = 0
    """Parameters per layer that the fields above do not imply (those of a custom `layer`)."""

    def used(self) -> frozenset[str]:
        """Names of the features that differ from Llama's."""
        changed = {f.name for f in fields(self) if getattr(self, f.name) != getattr(_LLAMA, f.name)}
        return frozenset(changed - {"extra_layer_parameters", "local_rope_theta"})

    def kind(self, number: int) -> LayerKind:
        """The kind of layer `number`."""
        return self.layer_kinds[number] if self.layer_kinds else LayerKind()


_LLAMA = Features()


def llama_features(config: ModelConfig) -> Features:
    """No differences."""
    return _LLAMA


def read_fields(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Fields of a ModelConfig from a config.json (`raw`, read from `path`); missing values take Llama's defaults.

    Raises UserError if a required field is missing, or if an unsupported setting would change the logits.
    """
    _refuse_unsupported(raw, path)
    for name in _REQUIRED:
        if not isinstance(raw.get(name), int):
            raise UserError(f"{path}: {name} is missing or not an integer")
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
    """The entries of config.json that do not depend on the family, in transformers' format."""
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
    """`write_fields`, plus entries saying that no projection has a bias, for transformers classes that read them."""
    return write_fields(config) | {"attention_bias": False, "mlp_bias": False}


NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""For `write` of families for which transformers would fill in ids that another vocabulary may lack. The tokenizer's
own ids replace them."""


@dataclass(frozen=True)
class Family:
    """A decoder family. Registered under its model type (see `FAMILIES`); docs/ARCHITECTURE.md shows how to add one."""

    model_type: str
    """`model_type` in config.json, and `architecture` in a recipe."""
    class_name: str
    """The class in transformers, e.g. LlamaForCausalLM: `architectures` in config.json."""
    features: Callable[[ModelConfig], Features] = llama_features
    read: Callable[[Mapping[str, Any], Path], dict[str, Any]] = read_fields
    """Content and path of a config.json → fields of a ModelConfig. Raises UserError for unsupported settings."""
    write: Callable[[ModelConfig], dict[str, Any]] = no_biases
    """The inverse: entries of config.json without `model_type` and `architectures`; they override `settings`."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Entries of config.json specific to this family, with their defaults. They are read into and written from
    `ModelConfig.settings`, where `features` finds them; `read` may return other `settings`."""

    def setting(self, config: ModelConfig, name: str) -> Any:
        """A setting's value in `config`, or its default."""
        return config.settings.get(name, self.settings[name])


def _refuse_unsupported(raw: Mapping[str, Any], path: Path) -> None:
    """A setting that changes the logits and that the decoder does not know must not be ignored."""
    if raw.get("hidden_act", "silu") != "silu":
        raise UserError(f"{path}: hidden_act {raw['hidden_act']!r} is not supported; only silu is")
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if any(where.get("partial_rotary_factor", 1.0) != 1.0 for where in (rope, raw)):
        raise UserError(f"{path}: partial_rotary_factor other than 1 is not supported")
    for name in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if raw.get(name):
            raise UserError(f"{path}: {name} is not supported")
    if raw.get("quantization_config"):
        raise UserError(f"{path}: quantized weights are not supported; use the original ones")
