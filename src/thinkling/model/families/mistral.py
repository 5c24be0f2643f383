"""Mistral (arXiv 2310.06825): the same as Llama, but early versions have a sliding window in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.model.families.base import NO_TOKENS, Family, Features, LayerKind, read_fields, write_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig


def features(config: ModelConfig) -> Features:
    window = FAMILY.setting(config, "sliding_window")
    return Features(layer_kinds=(LayerKind(window=window),) * config.num_hidden_layers if window else ())


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Uses 4,096 if sliding_window is missing, as transformers does; null means that there is no window."""
    found = read_fields({"num_key_value_heads": 8, **raw}, path)
    return found if "sliding_window" in raw else found | {"settings": {"sliding_window": 4096}}


FAMILY = Family(
    model_type="mistral",
    class_name="MistralForCausalLM",
    features=features,
    read=read,
    write=lambda config: write_fields(config) | NO_TOKENS,
    settings={"sliding_window": None},
)
