"""Scaled frequencies: as fields of a recipe, and read from config.json; their numbers are compared in families/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.rope import RopeScaling, read_rope, write_rope
from thinkling.model.rotary import rotary_tables

LLAMA31 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("theta", "scaling"),
    [
        (5e5, LLAMA31),
        (5e5, LLAMA31 | {"factor": 32.0}),
        (1e6, YARN),
        (1e4, YARN | {"beta_fast": 64.0, "beta_slow": 2.0, "truncate": False}),
        (1e4, YARN | {"factor": 1.0}),
        (1e4, {"rope_type": "linear", "factor": 8.0}),
    ],
)
def test_frequencies_of_real_models_are_transformers(theta: float, scaling: dict[str, Any]) -> None:
    """Of 64 frequencies, as heads of 128 channels have them, at positions up to 100,000."""
    config = LlamaConfig(head_dim=128, rope_parameters=scaling | {"rope_theta": theta}, max_position_embeddings=131072)
    frequencies, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config)
    positions = torch.tensor([0, 1, 17, 4096, 100_000])
    cos, sin = rotary_tables(positions, 128, theta, RopeScaling.model_validate(scaling))
    angles = positions[:, None].double() * frequencies.double()
    # fp32 angles of 100,000 are exact to 0.004.
    for found, expected in ((cos, angles.cos()), (sin, angles.sin())):
        assert (found[:4] - factor * expected[:4]).abs().max() < 1e-3
        assert (found - factor * expected).abs().max() < 2e-2


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, (1e4, None)),
        ({"rope_theta": 5e5}, (5e5, None)),
        ({"rope_theta": 5e5, "rope_scaling": None}, (5e5, None)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}, "rope_theta": 5e5}, (7e4, None)),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA31}, (5e5, LLAMA31)),
        ({"rope_parameters": LLAMA31 | {"rope_theta": 5e5}}, (5e5, LLAMA31)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, (1e4, {"rope_type": "linear", "factor": 2.0})),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}, "max_position_embeddings": 32768},
            (1e4, YARN),
        ),
    ],
)
def test_old_and_new_forms_are_read(raw: dict[str, Any], expected: tuple[float, dict[str, Any] | None]) -> None:
    assert read_rope(raw, Path("config.json")) == expected
    theta, scaling = expected
    written = write_rope(theta, None if scaling is None else RopeScaling.model_validate(scaling))
    assert read_rope(written, Path("config.json")) == expected


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "'linear', 'llama3' or 'yarn'"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "linear", "factor": 0.5}, "greater than or equal to 1"),
        ({"rope_type": "linear", "factor": 2.0, "mscale": 1.0}, "rope_type linear does not use mscale; remove mscale"),
        ({"rope_type": "yarn", "factor": 2.0}, "yarn requires original_max_position_embeddings"),
        (LLAMA31 | {"low_freq_factor": 4.0}, "low_freq_factor 4.0 must be below high_freq_factor 4.0"),
        (LLAMA31 | {"finetuned": True}, "finetuned"),
    ],
)
def test_a_bad_field_is_named(scaling: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        RopeScaling.model_validate(scaling)


def test_a_recipes_base_can_be_raised_under_a_scaling() -> None:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    fields = {**shape, "vocab_size": 9, "num_key_value_heads": 1, "head_dim": 8, "rope_scaling": LLAMA31}
    model = Decoder(ModelConfig.model_validate(fields))
    tokens = torch.arange(9).repeat(1, 4)
    with torch.no_grad():
        before = model(tokens)
        model.set_rope_theta(5e5)
        assert not torch.allclose(model(tokens), before)
    assert model.config.rope_scaling == RopeScaling.model_validate(LLAMA31)
