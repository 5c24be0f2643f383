"""Gemma 3, text (arXiv 2503.19786): Gemma 2 with per-head norms instead of soft caps, and with five sliding-window
layers per full layer. The sliding-window layers have a separate rotary base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.errors import UserError
from thinkling.model.families.base import NO_TOKENS, Family, Features, LayerKind, no_biases, read_fields
from thinkling.model.families.gemma2 import ACTIVATION, FULL, NORMS, SLIDING, layer_types, own_settings, plain

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

_DEFAULTS = {"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 131072}
_PATTERN, _EVERY = "sliding_window_pattern", 6
"""Name of the setting for the layer pattern, and its default: every sixth layer has no sliding window."""
_LOCAL, _LOCAL_THETA = "rope_local_base_freq", 1e4


def features(config: ModelConfig) -> Features:
    window = FAMILY.setting(config, "sliding_window")
    return Features(
        head_norms=True,
        norms=NORMS,
        norm_offset=1.0,
        activation="gelu_tanh",
        embedding_scale=config.hidden_size**0.5,
        attention_scale=FAMILY.setting(config, "query_pre_attn_scalar") ** -0.5,
        logit_softcap=FAMILY.setting(config, "final_logit_softcapping"),
        layer_kinds=tuple(LayerKind("local", window) if one == SLIDING else LayerKind() for one in _types(config)),
        local_rope_theta=FAMILY.setting(config, _LOCAL),
    )


def _types(config: ModelConfig) -> list[str]:
    pattern = FAMILY.setting(config, _PATTERN)
    return layer_types(FAMILY.setting(config, "layer_types"), config.num_hidden_layers, pattern)


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Also reads the rotary embedding of each of the two kinds of layers, in the old or new format."""
    if raw.get("attn_logit_softcapping"):
        raise UserError(
            f"{path}: attn_logit_softcapping is not supported for gemma3_text; set it to null, because transformers "
            "ignores it"
        )
    rope = raw.get("rope_parameters") or {}
    full, local = rope.get(FULL) or {}, rope.get(SLIDING) or {}
    if local.get("rope_type", "default") != "default":
        raise UserError(f"{path}: rope scaling in sliding-window layers is not supported; use a different model")
    theta = full.get("rope_theta") or raw.get("rope_theta") or 1e6
    base = local.get("rope_theta") or raw.get(_LOCAL) or _LOCAL_THETA
    changed = {**_DEFAULTS, **plain(raw, path), "rope_parameters": {**full, "rope_theta": theta}}
    found = read_fields(changed, path)
    pattern = raw.get(_PATTERN) or _EVERY
    settings = own_settings({**raw, _LOCAL: base}, FAMILY, found["num_hidden_layers"], pattern)
    return found | {"settings": settings}


def write(config: ModelConfig) -> dict[str, Any]:
    found = no_biases(config) | NO_TOKENS
    local = {"rope_type": "default", "rope_theta": FAMILY.setting(config, _LOCAL)}
    return found | {
        "rope_parameters": {FULL: found["rope_parameters"], SLIDING: local},
        "hidden_act": ACTIVATION,
        "hidden_activation": ACTIVATION,
        "layer_types": _types(config),
    }


FAMILY = Family(
    model_type="gemma3_text",
    class_name="Gemma3ForCausalLM",
    features=features,
    read=read,
    write=write,
    settings={
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "layer_types": None,
        _PATTERN: _EVERY,
        _LOCAL: _LOCAL_THETA,
        "final_logit_softcapping": None,
    },
)
