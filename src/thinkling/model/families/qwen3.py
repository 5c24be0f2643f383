"""Qwen3, dense (arXiv 2505.09388): Llama with an RMSNorm over each head's queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.model.families.base import Family, Features, read_fields

if TYPE_CHECKING:
    from thinkling.model.config import ModelConfig


def features(config: ModelConfig) -> Features:
    return Features(head_norms=True)


def read(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Uses 128 if head_dim is missing, as transformers does for this family."""
    return read_fields({**raw, "head_dim": raw.get("head_dim") or 128}, path)


FAMILY = Family(model_type="qwen3", class_name="Qwen3ForCausalLM", features=features, read=read)
