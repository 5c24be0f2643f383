"""OLMo 2 (arXiv 2501.00656): norms after attention and MLP instead of before them, and norms over the queries and over
the keys of all heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.model.families.base import NO_TOKENS, Family, Features, NormNames, no_biases, read_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig


def features(config: ModelConfig) -> Features:
    return Features(
        row_norms=True, norms=NormNames(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
    )


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    return read_fields({"rms_norm_eps": 1e-5, "max_position_embeddings": 2048, **raw}, path)


def write(config: ModelConfig) -> dict[str, Any]:
    return no_biases(config) | NO_TOKENS


FAMILY = Family(model_type="olmo2", class_name="Olmo2ForCausalLM", features=features, read=read, write=write)
