"""SmolLM3: Llama without a rotary embedding in every fourth layer (NoPE, arXiv 2501.18795)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.model.families.base import NO_TOKENS, Family, Features, LayerKind, no_biases, read_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

_DEFAULTS = {"num_key_value_heads": 4, "tie_word_embeddings": True, "rope_theta": 2e6, "max_position_embeddings": 32768}
"""transformers' defaults for this family, used for values that a file lacks."""


def features(config: ModelConfig) -> Features:
    return Features(layer_kinds=tuple(LayerKind("global" if one else "none") for one in _rotary_layers(config)))


def _rotary_layers(config: ModelConfig) -> list[int]:
    """Returns 1 for each layer with a rotary embedding and 0 for each layer without. Despite its name,
    `no_rope_layers` has the same meaning."""
    given = FAMILY.setting(config, "no_rope_layers")
    return list(given) if given else _alternating(config.num_hidden_layers, _interval(config.settings))


def _interval(settings: Mapping[str, Any]) -> int:
    return settings.get("no_rope_layer_interval", 4)


def _alternating(layers: int, interval: int) -> list[int]:
    return [int((number + 1) % interval != 0) for number in range(layers)]


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Omits `no_rope_layers` if the interval implies the same list, so that the configuration round-trips."""
    found = read_fields({**_DEFAULTS, **raw}, path)
    settings = {
        name: raw[name] for name in FAMILY.settings if raw.get(name, FAMILY.settings[name]) != FAMILY.settings[name]
    }
    if settings.get("no_rope_layers") == _alternating(found["num_hidden_layers"], _interval(settings)):
        del settings["no_rope_layers"]
    return found | {"settings": settings}


def write(config: ModelConfig) -> dict[str, Any]:
    return no_biases(config) | NO_TOKENS | {"use_sliding_window": False, "no_rope_layers": _rotary_layers(config)}


FAMILY = Family(
    model_type="smollm3",
    class_name="SmolLM3ForCausalLM",
    features=features,
    read=read,
    write=write,
    settings={"no_rope_layers": None, "no_rope_layer_interval": 4},
)
