"""Configurations in the form of published models, old names and foreign keys included: sizes as their cards state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.huggingface import read_config


def shape(model_type: str, sizes: tuple[int, ...], **fields: Any) -> dict[str, Any]:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {"model_type": model_type, **dict(zip((*names, "num_key_value_heads"), sizes, strict=True)), **fields}


def llama3(factor: float) -> dict[str, Any]:
    names = {"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    return {"rope_scaling": {"factor": factor, "rope_type": "llama3", **names}, "rope_theta": 500000.0}


GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": 256, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-3.2-1B": (
        shape("llama", (128256, 2048, 8192, 16, 32, 8), tie_word_embeddings=True, mlp_bias=False, **llama3(32.0)),
        1_235_814_400,
    ),
    "Llama-3.1-8B": (
        shape("llama", (128256, 4096, 14336, 32, 32, 8), tie_word_embeddings=False, pretraining_tp=1, **llama3(8.0)),
        8_030_261_248,
    ),
    "Qwen2.5-0.5B": (
        shape(
            "qwen2",
            (151936, 896, 4864, 24, 14, 2),
            tie_word_embeddings=True,
            use_sliding_window=False,
            sliding_window=32768,
            max_window_layers=24,
            rope_theta=1e6,
        ),
        494_032_768,
    ),
    "Mistral-7B-v0.3": (
        shape(
            "mistral", (32768, 4096, 14336, 32, 32, 8), sliding_window=None, tie_word_embeddings=False, rope_theta=1e6
        ),
        7_248_023_552,
    ),
    "SmolLM3-3B": (
        shape(
            "smollm3",
            (128256, 2048, 11008, 36, 16, 4),
            no_rope_layers=[1, 1, 1, 0] * 9,
            no_rope_layer_interval=4,
            use_sliding_window=False,
            sliding_window=None,
            layer_types=["full_attention"] * 36,
            rope_theta=5e6,
        ),
        3_075_098_624,
    ),
    "OLMo-2-1B": (
        shape(
            "olmo2", (100352, 2048, 8192, 16, 16, 16), attention_bias=False, tie_word_embeddings=False, rope_theta=5e5
        ),
        1_484_916_736,
    ),
    "Phi-3-mini-4k": (
        shape(
            "phi3",
            (32064, 3072, 8192, 32, 32, 32),
            auto_map={"AutoConfig": "configuration_phi3.Phi3Config"},
            rope_scaling=None,
            sliding_window=2047,
            original_max_position_embeddings=4096,
        ),
        3_821_079_552,
    ),
    "phi-4": (shape("phi3", (100352, 5120, 17920, 40, 40, 10), sliding_window=None, rope_theta=250000), 14_659_507_200),
    "granite-3.1-2b": (
        shape(
            "granite",
            (49155, 2048, 8192, 40, 32, 8),
            tie_word_embeddings=True,
            embedding_multiplier=12.0,
            attention_multiplier=0.015625,
            residual_multiplier=0.22,
            logits_scaling=8.0,
            rope_theta=5e6,
        ),
        2_533_531_648,
    ),
    "gemma-2-2b": (
        shape(
            "gemma2",
            (256000, 2304, 9216, 26, 8, 4),
            attn_logit_softcapping=50.0,
            final_logit_softcapping=30.0,
            cache_implementation="hybrid",
            hidden_act="gelu_pytorch_tanh",
            sliding_window=4096,
            **GEMMA,
        ),
        2_614_341_888,
    ),
    "gemma-3-1b": (
        shape(
            "gemma3_text",
            (262144, 1152, 6912, 26, 4, 1),
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            rope_local_base_freq=10000,
            rope_theta=1000000,
            rope_scaling=None,
            sliding_window=512,
            sliding_window_pattern=6,
            **GEMMA,
        ),
        999_885_952,
    ),
}


def published(name: str, directory: Path) -> ModelConfig:
    (directory / "config.json").write_text(json.dumps(PUBLISHED[name][0]))
    return read_config(directory)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_cards(name: str, tmp_path: Path) -> None:
    assert published(name, tmp_path).parameter_count() == PUBLISHED[name][1]


def test_what_changes_the_logits_is_read(tmp_path: Path) -> None:
    llama = published("Llama-3.2-1B", tmp_path)
    assert llama.rope_scaling is not None
    assert (llama.rope_theta, llama.rope_scaling.rope_type, llama.rope_scaling.factor) == (5e5, "llama3", 32.0)
    smol = [kind.rotary for kind in published("SmolLM3-3B", tmp_path).features.layer_kinds]
    assert smol == ["global", "global", "global", "none"] * 9
    assert {kind.window for kind in published("Phi-3-mini-4k", tmp_path).features.layer_kinds} == {2047}
    assert (
        published("phi-4", tmp_path).features.layer_kinds
        == published("Mistral-7B-v0.3", tmp_path).features.layer_kinds
        == ()
    )
    gemma = published("gemma-3-1b", tmp_path)
    assert [kind.window for kind in gemma.features.layer_kinds[:7]] == [512] * 5 + [None, 512]
    assert [kind.rotary for kind in gemma.features.layer_kinds[4:6]] == ["local", "global"]
    assert (gemma.rope_theta, gemma.features.local_rope_theta, gemma.tie_word_embeddings) == (1e6, 1e4, True)
    caps = published("gemma-2-2b", tmp_path).features
    assert (caps.attention_softcap, caps.logit_softcap, caps.attention_scale) == (50.0, 30.0, 1 / 16)


def test_mistral_has_transformers_window_where_the_file_names_none(tmp_path: Path) -> None:
    raw = dict(PUBLISHED["Mistral-7B-v0.3"][0])
    del raw["sliding_window"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert {kind.window for kind in read_config(tmp_path).features.layer_kinds} == {4096}


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        (
            "phi-4",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
            "'longrope' is not",
        ),
        ("gemma-2-2b", {"hidden_activation": "gelu"}, "hidden_activation 'gelu' is not supported"),
        ("gemma-2-2b", {"layer_types": ["chunked"] * 26}, "'chunked' is unknown; use full_attention or sliding"),
        ("gemma-3-1b", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma-3-1b", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is not supported for gemma3_text"),
        (
            "gemma-3-1b",
            {"layer_types": ["full_attention"]},
            "settings describes 1 layers, but num_hidden_layers is 26",
        ),
        ("SmolLM3-3B", {"use_sliding_window": True}, "use_sliding_window is not supported"),
        ("SmolLM3-3B", {"no_rope_layers": [1, 0]}, "settings describes 2 layers"),
        ("granite-3.1-2b", {"attention_bias": True}, "attention_bias is not supported"),
    ],
)
def test_what_a_family_does_not_support_is_named(name: str, fields: dict[str, Any], named: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name][0] | fields))
    with pytest.raises(UserError, match=named) as caught:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)
