"""Granite 3 (dense): Llama with four multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.model.families.base import NO_TOKENS, Family, Features, no_biases, read_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig


def features(config: ModelConfig) -> Features:
    return Features(
        embedding_scale=FAMILY.setting(config, "embedding_multiplier"),
        residual_scale=FAMILY.setting(config, "residual_multiplier"),
        attention_scale=FAMILY.setting(config, "attention_multiplier"),
        logit_scale=1.0 / FAMILY.setting(config, "logits_scaling"),
    )


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    return read_fields({"max_position_embeddings": 2048, **raw}, path)


FAMILY = Family(
    model_type="granite",
    class_name="GraniteForCausalLM",
    features=features,
    read=read,
    write=lambda config: no_biases(config) | NO_TOKENS,
    settings={
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "attention_multiplier": 1.0,
        "logits_scaling": 1.0,
    },
)
