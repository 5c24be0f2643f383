"""Rotary position embedding (arXiv 2104.09864) in Hugging Face's layout: channel i is paired with channel i + C/2.

Shapes: B rows, T positions, H heads, C head dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from thinkling.model.config import ModelConfig
from thinkling.model.rope import RopeScaling


def rotary_tables(
    positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the cosine and sine of each position's angles: fp32, shape `positions.shape + (head_dim / 2,)`."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    if scaling is None:
        angles = positions.unsqueeze(-1).float() * (1.0 / theta**exponents)
        return angles.cos(), angles.sin()
    angles = positions.unsqueeze(-1).float() * _scaled(1.0 / theta**exponents, theta, scaling)
    factor = _attention_factor(scaling)
    return angles.cos() * factor, angles.sin() * factor


def family_tables(positions: Tensor, config: ModelConfig, kind: str = "global") -> tuple[Tensor, Tensor]:
    """Returns the tables for layers with this `LayerKind.rotary`. Without a rotary embedding, all angles are 0."""
    features = config.features
    channels = int(config.head_dim * features.partial_rotary_factor)
    if kind == "none":
        return rotary_tables(torch.zeros_like(positions), channels, 1.0)
    if kind == "local":
        return rotary_tables(positions, channels, features.local_rope_theta)
    if features.rotary:
        return features.rotary(config, positions)
    return rotary_tables(positions, channels, config.rope_theta, config.rope_scaling)


def rotary_kinds(config: ModelConfig) -> set[str]:
    """Returns the kinds of tables that the layers need."""
    return {kind.rotary for kind in config.features.layer_kinds} or {"global"}


def _scaled(frequencies: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    factor, original = scaling.factor, scaling.original_max_position_embeddings or 0
    if scaling.rope_type == "linear":
        return frequencies / factor
    if scaling.rope_type == "llama3":
        low, high = scaling.low_freq_factor or 0.0, scaling.high_freq_factor or 0.0
        turns = original * frequencies / (2 * math.pi)
        unscaled = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 - unscaled) * frequencies / factor + unscaled * frequencies
    # yarn: the first and last channel of the ramp
    n = len(frequencies)

    def channel(turns: float) -> float:
        return n * math.log(original / (turns * 2 * math.pi)) / math.log(theta)

    first, last = channel(scaling.beta_fast or 32), channel(scaling.beta_slow or 1)
    if scaling.truncate is not False:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * n - 1)
    if first == last:
        last += 0.001
    scaled = ((torch.arange(n, dtype=torch.float32, device=frequencies.device) - first) / (last - first)).clamp(0, 1)
    return frequencies / factor * scaled + frequencies * (1 - scaled)


def _attention_factor(scaling: RopeScaling) -> float:
    """The factor by which queries and keys, and therefore the cosine and sine tables, are multiplied."""
    if scaling.rope_type != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def line(slope: float) -> float:
        return 0.1 * slope * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return line(scaling.mscale) / line(scaling.mscale_all_dim)
    return line(1.0)


def rotate(x_BTHC: Tensor, cos_BTC: Tensor, sin_BTC: Tensor) -> Tensor:
    """Rotates every head by the angles of its position and returns the result in the dtype of x.

    The tables are those returned by `rotary_tables` (B may be 1). Channels without entries in the tables are unchanged.
    """
    cos, sin = cos_BTC.unsqueeze(-2), sin_BTC.unsqueeze(-2)
    turned = 2 * cos.shape[-1]
    first, second = x_BTHC[..., :turned].chunk(2, dim=-1)
    parts = (first * cos - second * sin, second * cos + first * sin, x_BTHC[..., turned:])
    return torch.cat(parts, dim=-1).type_as(x_BTHC)


@dataclass(frozen=True, eq=False)
class Rotary:
    """Tables of one forward pass, shared by all layers. The class is not a pytree, so that FSDP's mixed precision does
    not cast the tables."""

    cos_BTC: Tensor
    """fp32 (B, T, C/2)."""
    sin_BTC: Tensor

    @classmethod
    def at(cls, positions_BT: Tensor, config: ModelConfig, kind: str = "global") -> Rotary:
        return cls(*family_tables(positions_BT, config, kind))

    @cached_property
    def turns_NC(self) -> Tensor:
        """cos + i·sin as complex64 (B·T, C/2)."""
        return torch.complex(self.cos_BTC, self.sin_BTC).flatten(0, 1)

    @cached_property
    def turns_back_NC(self) -> Tensor:
        """cos - i·sin as complex64 (B·T, C/2)."""
        return self.turns_NC.conj().resolve_conj()
