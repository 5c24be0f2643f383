"""What a family may define. The defaults are Llama's; a family states only how it differs. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.errors import UserError

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

_REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class NormNames:
    """The RMSNorms of a layer by their place, with Hugging Face's names for them; None where there is no norm.

    "Before" norms the input of a block, "after" norms its output, ahead of the residual addition.
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
class Features:
    """How a decoder differs from Llama's.

    decoder.py implements every feature; a fast path lists those that it implements too (its `supports`) and leaves all
    other decoders to the plain forward. A feature added here is therefore never silently ignored.
    """

    qkv_bias: bool = False
    """Biases on the projections of queries, keys and values."""
    head_norms: bool = False
    """An RMSNorm over each head's queries and keys, ahead of the rotary embedding."""
    norms: NormNames = field(default_factory=NormNames)
    embedding_scale: float = 1.0
    """Factor on the embeddings as they enter the first layer; a tied output head is not scaled."""
    rotary: Callable[[ModelConfig, Any], Any] | None = None
    """(cos, sin) of int64 positions, in place of `rotary_tables` and with its shapes: for scaled frequencies such as
    linear, llama3 and yarn (yarn's factor on attention goes into both tables)."""
    layer: Callable[[ModelConfig, int], Any] | None = None
    """Builds layer number i as a module with `forward(x_ND, rotary, layout) -> x_ND`, in place of `DecoderLayer`: for
    what no other feature expresses. Import torch inside the function: recipes are checked without loading it."""
    extra_layer_parameters: int = 0
    """Parameters per layer that the fields above do not imply (those of an own `layer`)."""

    def used(self) -> frozenset[str]:
        """Names of the features in which the decoder differs from Llama's."""
        changed = {f.name for f in fields(self) if getattr(self, f.name) != getattr(_LLAMA, f.name)}
        return frozenset(changed - {"extra_layer_parameters"})


_LLAMA = Features()


def llama_features(config: ModelConfig) -> Features:
    """No difference."""
    return _LLAMA


def read_fields(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Fields of a ModelConfig from a config.json (`raw`, read from `path`); values that it leaves out are Llama's.

    Raises UserError if a field is missing, or if a setting would change the logits and is not supported.
    """
    _refuse_unsupported(raw, path)
    for name in _REQUIRED:
        if not isinstance(raw.get(name), int):
            raise UserError(f"{path}: {name} is missing, or no whole number")
    rope = raw.get("rope_parameters") or {}
    return {name: raw[name] for name in _REQUIRED} | {
        "num_key_value_heads": raw.get("num_key_value_heads") or raw["num_attention_heads"],
        "head_dim": raw.get("head_dim") or raw["hidden_size"] // max(raw["num_attention_heads"], 1),
        "rope_theta": rope.get("rope_theta") or raw.get("rope_theta") or 1e4,
        "rms_norm_eps": raw.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": raw.get("tie_word_embeddings", False),
        "max_position_embeddings": raw.get("max_position_embeddings", 4096),
        "initializer_range": raw.get("initializer_range", 0.02),
    }


def write_fields(config: ModelConfig) -> dict[str, Any]:
    """The entries of config.json that do not depend on the family, as transformers reads them."""
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
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_dropout": 0.0,
        "initializer_range": config.initializer_range,
        "use_cache": True,
    }


def no_biases(config: ModelConfig) -> dict[str, Any]:
    """`write_fields`, and that no projection has a bias (for transformers' classes that ask)."""
    return write_fields(config) | {"attention_bias": False, "mlp_bias": False}


@dataclass(frozen=True)
class Family:
    """A decoder family. Registered under its model type (see `FAMILIES`); docs/ARCHITECTURE.md shows how to add one."""

    model_type: str
    """`model_type` in config.json, and `architecture` in a recipe."""
    class_name: str
    """The class in transformers, e.g. LlamaForCausalLM: `architectures` in config.json."""
    features: Callable[[ModelConfig], Features] = llama_features
    read: Callable[[Mapping[str, Any], Path], dict[str, Any]] = read_fields
    """Content and path of a config.json → fields of a ModelConfig; UserError for what the family does not support."""
    write: Callable[[ModelConfig], dict[str, Any]] = no_biases
    """The way back: entries of config.json, without `model_type`, `architectures` and the family's `settings`."""
    settings: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Entries of config.json that only this family has, each with the value where it is left out. They are read into
    and written from `ModelConfig.settings`, where `features` finds them."""

    def setting(self, config: ModelConfig, name: str) -> Any:
        """A setting's value in `config`, or its default."""
        return config.settings.get(name, self.settings[name])


def _refuse_unsupported(raw: Mapping[str, Any], path: Path) -> None:
    """A setting that changes the logits and that the decoder does not know must not be passed over."""
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise UserError(f"{path}: rope scaling of type {kind!r} is not supported")
    if raw.get("hidden_act", "silu") != "silu":
        raise UserError(f"{path}: hidden_act {raw['hidden_act']!r} is not supported; only silu is")
    if any(where.get("partial_rotary_factor", 1.0) != 1.0 for where in (scaling, raw)):
        raise UserError(f"{path}: partial_rotary_factor other than 1 is not supported")
    for name in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if raw.get(name):
            raise UserError(f"{path}: {name} is not supported")
    if raw.get("quantization_config"):
        raise UserError(f"{path}: quantised weights are not supported; take the original ones")
