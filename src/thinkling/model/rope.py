"""Scaled rotary frequencies in recipes and in config.json. Does not load torch."""

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
"""Type → required fields besides `factor`, and optional ones."""


class RopeScaling(BaseModel):
    """Scaled frequencies, with the names and defaults of `rope_parameters` in transformers' config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rope_type: Literal["linear", "llama3", "yarn"]
    """`linear`: positions are divided by `factor`; `llama3`: only low frequencies are divided (Llama 3.1 to 3.3);
    `yarn`: a ramp between scaled and unscaled frequencies, with a factor on attention (arXiv 2309.00071)."""
    factor: float = Field(ge=1)
    """Ratio of the new row length to the original one."""
    original_max_position_embeddings: int | None = Field(default=None, gt=0)
    """Longest row before scaling, in tokens (llama3, yarn)."""
    low_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: frequencies with fewer rotations than this in an original row are divided by `factor`."""
    high_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: frequencies with more rotations than this in an original row are unchanged."""
    attention_factor: float | None = Field(default=None, gt=0)
    """yarn: factor on queries and on keys; None: 0.1 · ln(factor) + 1, or as the two `mscale` fields say."""
    beta_fast: float | None = Field(default=None, gt=0)
    """yarn: rotations in an original row above which a frequency is unchanged; None: 32."""
    beta_slow: float | None = Field(default=None, gt=0)
    """yarn: rotations in an original row below which a frequency is divided by `factor`; None: 1."""
    mscale: float | None = None
    """yarn: weight of ln(factor) in the numerator of the attention factor; `mscale_all_dim` in the denominator."""
    mscale_all_dim: float | None = None
    """yarn: see `mscale`."""
    truncate: bool | None = None
    """yarn: whether the ramp starts and ends at whole channels; None: True."""

    @model_validator(mode="after")
    def _has_what_its_type_has(self) -> RopeScaling:
        needed, allowed = _OWN[self.rope_type]
        given = {name for name, value in self if value is not None} - {"rope_type", "factor"}
        if missing := sorted(needed - given):
            raise ValueError(f"{self.rope_type} needs {missing[0]}")
        if extra := sorted(given - needed - allowed):
            raise ValueError(f"{self.rope_type} has no {extra[0]}; leave it out")
        low, high = self.low_freq_factor, self.high_freq_factor
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low_freq_factor {low} is not below high_freq_factor {high}")
        return self


def read_rope(raw: Mapping[str, Any], path: Path) -> tuple[float, dict[str, Any] | None]:
    """`rope_theta` and the fields of a RopeScaling (or None) from a config.json in the old or the new format.

    Raises UserError if the scaling is not supported.
    """
    # In transformers, `rope_scaling`, the old name, takes precedence over `rope_parameters`.
    rope = {**(raw.get("rope_scaling") or raw.get("rope_parameters") or {})}
    base = (raw.get("rope_parameters") or {}).get("rope_theta")
    theta = rope.pop("rope_theta", None) or base or raw.get("rope_theta") or 1e4
    old = rope.pop("type", None)
    kind = rope.pop("rope_type", None) or old or "default"
    rope.pop("partial_rotary_factor", None)
    if kind == "default":
        return theta, None
    if kind not in _OWN:
        raise UserError(f"{path}: rope scaling of type {kind!r} is not supported; known are {', '.join(_OWN)}")
    if "original_max_position_embeddings" in _OWN[kind][0]:
        original = raw.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        rope["original_max_position_embeddings"] = original or raw.get("max_position_embeddings")
    return theta, {"rope_type": kind, **rope}


def write_rope(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Entries of config.json in the new format and, for older readers, in the old one."""
    if scaling is None:
        return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    fields = scaling.model_dump(exclude_none=True)
    return {"rope_theta": theta, "rope_parameters": fields | {"rope_theta": theta}, "rope_scaling": fields}
