"""Gemma 2 (arXiv 2408.00118): norms before and after attention and MLP, with weights stored minus 1; scaled embeddings;
a sliding window in every other layer; soft caps on attention and logits; a GELU gate.

This file also contains the code shared with Gemma 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.errors import UserError
from thinkling.model.families.base import NO_TOKENS, Family, Features, LayerKind, NormNames, no_biases, read_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

NORMS = NormNames(
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)
FULL, SLIDING = "full_attention", "sliding_attention"
ACTIVATION = "gelu_pytorch_tanh"
_DEFAULTS = {"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 8192}


def features(config: ModelConfig) -> Features:
    window = FAMILY.setting(config, "sliding_window")
    types = layer_types(FAMILY.setting(config, "layer_types"), config.num_hidden_layers, 2)
    return Features(
        norms=NORMS,
        norm_offset=1.0,
        activation="gelu_tanh",
        embedding_scale=config.hidden_size**0.5,
        attention_scale=FAMILY.setting(config, "query_pre_attn_scalar") ** -0.5,
        attention_softcap=FAMILY.setting(config, "attn_logit_softcapping"),
        logit_softcap=FAMILY.setting(config, "final_logit_softcapping"),
        layer_kinds=tuple(LayerKind(window=window if one == SLIDING else None) for one in types),
    )


def layer_types(given: Sequence[str] | None, layers: int, pattern: int) -> list[str]:
    """Returns the given attention types of the layers or, if none are given, the default: one full layer after every
    `pattern` - 1 sliding layers. Raises ValueError for an unknown type."""
    if given is None:
        return [SLIDING if (number + 1) % pattern else FULL for number in range(layers)]
    for one in given:
        if one not in (FULL, SLIDING):
            raise ValueError(f"settings.layer_types: {one!r} is unknown; use {FULL} or {SLIDING}")
    return list(given)


def plain(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns `raw` in the form that `read_fields` accepts, with Llama's activation. Raises UserError for unsupported
    settings of Gemma."""
    activation = raw.get("hidden_activation") or ACTIVATION
    if activation != ACTIVATION:
        raise UserError(f"{path}: hidden_activation {activation!r} is not supported; use a model with {ACTIVATION}")
    if raw.get("use_bidirectional_attention"):
        raise UserError(f"{path}: use_bidirectional_attention is not supported; use a different model")
    return {**raw, "hidden_act": "silu"}


def own_settings(raw: Mapping[str, Any], family: Family, layers: int, pattern: int) -> dict[str, Any]:
    """Returns the family's settings in `raw` that differ from the family's defaults. Layer types are omitted if the
    pattern implies them."""
    found = {name: raw[name] for name in family.settings if name in raw and raw[name] != family.settings[name]}
    if found.get("layer_types") == layer_types(None, layers, pattern):
        del found["layer_types"]
    return found


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = read_fields({**_DEFAULTS, **plain(raw, path)}, path)
    return found | {"settings": own_settings(raw, FAMILY, found["num_hidden_layers"], 2)}


def write(config: ModelConfig) -> dict[str, Any]:
    return (
        no_biases(config)
        | NO_TOKENS
        | {
            "hidden_act": ACTIVATION,
            "hidden_activation": ACTIVATION,
            "layer_types": layer_types(FAMILY.setting(config, "layer_types"), config.num_hidden_layers, 2),
        }
    )


FAMILY = Family(
    model_type="gemma2",
    class_name="Gemma2ForCausalLM",
    features=features,
    read=read,
    write=write,
    settings={
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "layer_types": None,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
)
