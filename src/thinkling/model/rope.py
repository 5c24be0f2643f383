"""Scaling of rotary frequencies, in recipes and in config.json. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.errors import UserError

_OWN: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "linear": (frozenset(), frozenset()),
    "llama3": (frozenset({"original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}), frozenset()),
    "yarn": (
        frozenset({"original_max_position_embeddings"}),
        frozenset({"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}),
    ),
}
"""Type of scaling → its required fields in addition to `factor`, and its optional fields."""


class RopeScaling(BaseModel):
    """Scaling of rotary frequencies. Names and defaults are those of `rope_parameters` in transformers' config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rope_type: Literal["linear", "llama3", "yarn"]
    """`linear`: positions are divided by `factor`. `llama3`: only low frequencies are divided (Llama 3.1 to 3.3).
    `yarn`: a ramp between scaled and unscaled frequencies, with a factor on attention (arXiv 2309.00071)."""
    factor: float = Field(ge=1)
    """Ratio of the new row length to the original row length."""
    original_max_position_embeddings: int | None = Field(default=None, gt=0)
    """Length in tokens of the longest row before scaling (llama3, yarn)."""
    low_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: number of rotations in an original row below which a frequency is divided by `factor`."""
    high_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: number of rotations in an original row above which a frequency is unchanged."""
    attention_factor: float | None = Field(default=None, gt=0)
    """yarn: factor by which queries and keys are multiplied. None means 0.1 · ln(factor) + 1, or the factor determined
    by the two `mscale` fields if they are set."""
    beta_fast: float | None = Field(default=None, gt=0)
    """yarn: number of rotations in an original row above which a frequency is unchanged. None means 32."""
    beta_slow: float | None = Field(default=None, gt=0)
    """yarn: number of rotations in an original row below which a frequency is divided by `factor`. None means 1."""
    mscale: float | None = None
    """yarn: weight of ln(factor) in the numerator of the attention factor."""
    mscale_all_dim: float | None = None
    """yarn: weight of ln(factor) in the denominator of the attention factor."""
    truncate: bool | None = None
    """yarn: whether the ramp starts and ends at whole channels. None means True."""

    @model_validator(mode="after")
    def _has_what_its_type_has(self) -> RopeScaling:
        needed, allowed = _OWN[self.rope_type]
        given = {name for name, value in self if value is not None} - {"rope_type", "factor"}
        if missing := sorted(needed - given):
            raise ValueError(f"rope_type {self.rope_type} requires {missing[0]}; set {missing[0]}")
        if extra := sorted(given - needed - allowed):
            raise ValueError(f"rope_type {self.rope_type} does not use {extra[0]}; remove {extra[0]}")
        low, high = self.low_freq_factor, self.high_freq_factor
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low_freq_factor {low} must be below high_freq_factor {high}")
        return self


def read_rope(raw: Mapping[str, Any], path: Path) -> tuple[float, dict[str, Any] | None]:
    """Returns `rope_theta` and the fields of a RopeScaling (or None) from a config.json in the old or new format.

    Raises UserError if the scaling is not supported.
    """
    # In transformers, the old name `rope_scaling` takes precedence over `rope_parameters`.
    rope = {**(raw.get("rope_scaling") or raw.get("rope_parameters") or {})}
    base = (raw.get("rope_parameters") or {}).get("rope_theta")
    theta = rope.pop("rope_theta", None) or base or raw.get("rope_theta") or 1e4
    old = rope.pop("type", None)
    kind = rope.pop("rope_type", None) or old or "default"
    rope.pop("partial_rotary_factor", None)
    if kind == "default":
        return theta, None
    if kind not in _OWN:
        raise UserError(f"{path}: rope scaling of type {kind!r} is not supported; use one of {', '.join(_OWN)}")
    if "original_max_position_embeddings" in _OWN[kind][0]:
        original = raw.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        rope["original_max_position_embeddings"] = original or raw.get("max_position_embeddings")
    return theta, {"rope_type": kind, **rope}


def write_rope(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Returns entries of config.json in the new format and, for older versions of transformers, in the old format."""
    if scaling is None:
        return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    fields = scaling.model_dump(exclude_none=True)
    return {"rope_theta": theta, "rope_parameters": fields | {"rope_theta": theta}, "rope_scaling": fields}
