"""Qwen2 and Qwen2.5 (arXiv 2407.10671): Llama with biases on queries, keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinkling.model.families.base import Family, Features, write_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig


def features(config: ModelConfig) -> Features:
    return Features(qkv_bias=True)


FAMILY = Family(model_type="qwen2", class_name="Qwen2ForCausalLM", features=features, write=write_fields)
