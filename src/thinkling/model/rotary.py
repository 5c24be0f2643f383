"""Rotary position embedding (arXiv 2104.09864) in Hugging Face's layout: channel i turns with channel i + C/2.

Shapes: B rows, T positions, H heads, C head dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from thinkling.model.config import ModelConfig


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles: fp32, shape `positions.shape + (head_dim / 2,)`."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.unsqueeze(-1).float() * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def family_tables(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The same for a decoder, by its family's rule where it has one."""
    rotary = config.features.rotary
    return rotary(config, positions) if rotary else rotary_tables(positions, config.head_dim, config.rope_theta)


def rotate(x_BTHC: Tensor, cos_BTC: Tensor, sin_BTC: Tensor) -> Tensor:
    """Turns every head by its position's angles; tables as `rotary_tables` gives them (B may be 1). Keeps the dtype."""
    cos, sin = cos_BTC.unsqueeze(-2), sin_BTC.unsqueeze(-2)
    first, second = x_BTHC.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x_BTHC)


@dataclass(frozen=True, eq=False)
class Rotary:
    """One forward's tables, made once for all layers. No pytree: FSDP's mixed precision must not cast them."""

    cos_BTC: Tensor
    """fp32 (B, T, C/2)."""
    sin_BTC: Tensor

    @classmethod
    def at(cls, positions_BT: Tensor, config: ModelConfig) -> Rotary:
        return cls(*family_tables(positions_BT, config))

    @cached_property
    def turns_NC(self) -> Tensor:
        """cos + i·sin as complex64 (B·T, C/2)."""
        return torch.complex(self.cos_BTC, self.sin_BTC).flatten(0, 1)

    @cached_property
    def turns_back_NC(self) -> Tensor:
        """cos - i·sin as complex64 (B·T, C/2)."""
        return self.turns_NC.conj().resolve_conj()
