"""Phi-3 and Phi-4 (arXiv 2404.14219, 2412.08905): Llama with one parameter for queries, keys and values and one
parameter for gate and up. Some versions have a sliding window or partially rotated heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.errors import UserError
from thinkling.model.families.base import NO_TOKENS, Family, Features, LayerKind, read_fields, write_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig

_PARTIAL = "partial_rotary_factor"


def features(config: ModelConfig) -> Features:
    if config.rope_scaling is not None:
        kind = config.rope_scaling.rope_type
        raise ValueError(f"rope_scaling: transformers does not support {kind} for phi3; remove rope_scaling")
    window = FAMILY.setting(config, "sliding_window")
    return Features(
        fused_projections=True,
        layer_kinds=(LayerKind(window=window),) * config.num_hidden_layers if window else (),
        partial_rotary_factor=FAMILY.setting(config, _PARTIAL),
    )


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    rope = {**(raw.get("rope_scaling") or raw.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(
            f"{path}: rope scaling of type {kind!r} is not supported for phi3; use a version without it, such as "
            f"Phi-3-mini-4k or phi-4"
        )
    partial = rope.pop(_PARTIAL, None) or raw.get(_PARTIAL) or 1.0
    theta = {"rope_theta": rope.get("rope_theta") or raw.get("rope_theta") or 1e4}
    plain = {**raw, _PARTIAL: 1.0, "rope_scaling": None, "rope_parameters": theta}
    settings = {"sliding_window": raw.get("sliding_window"), _PARTIAL: partial}
    kept = {name: value for name, value in settings.items() if value != FAMILY.settings[name]}
    return read_fields({"rms_norm_eps": 1e-5, **plain}, path) | {"settings": kept}


def write(config: ModelConfig) -> dict[str, Any]:
    found: dict[str, Any] = write_fields(config)
    found["rope_parameters"][_PARTIAL] = FAMILY.setting(config, _PARTIAL)
    return found | NO_TOKENS | {"original_max_position_embeddings": config.max_position_embeddings}


FAMILY = Family(
    model_type="phi3",
    class_name="Phi3ForCausalLM",
    features=features,
    read=read,
    write=write,
    settings={"sliding_window": None, _PARTIAL: 1.0},
)
