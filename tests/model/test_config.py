"""Sizes by hand arithmetic, and what a config refuses."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder

NANBEIGE_3B = ModelConfig(
    vocab_size=166144,
    hidden_size=2560,
    intermediate_size=10496,
    num_hidden_layers=32,
    num_attention_heads=20,
    num_key_value_heads=4,
    head_dim=128,
    tie_word_embeddings=False,
)


def _small(**fields: object) -> ModelConfig:
    shape = {
        "vocab_size": 31,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    return ModelConfig.model_validate(shape | fields)


def test_3b_by_hand() -> None:
    # q and o 2560 × 2560, k and v 2560 × 512, gate, up and down 2560 × 10496, two norms
    layer = 2 * 6_553_600 + 2 * 1_310_720 + 3 * 26_869_760 + 2 * 2_560
    assert layer == 96_343_040
    assert NANBEIGE_3B.non_embedding_parameter_count() == 32 * layer + 2_560 == 3_082_979_840
    assert NANBEIGE_3B.parameter_count() == 3_082_979_840 + 2 * 166_144 * 2_560 == 3_933_637_120
    # 6 × (3,082,979,840 + 425,328,640) + 6 × 32 × 2,560 × 4,096
    assert NANBEIGE_3B.flops_per_token(4096) == 21_049_850_880 + 2_013_265_920


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_the_modules(architecture: str, tied: bool) -> None:
    config = _small(architecture=architecture, tie_word_embeddings=tied)
    model = Decoder(config)
    assert config.parameter_count() == sum(p.numel() for p in model.parameters())
    embeddings = [p.numel() for n, p in model.named_parameters() if "embed" in n or "lm_head" in n]
    assert config.non_embedding_parameter_count() == config.parameter_count() - sum(embeddings)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"architecture": "gpt2"}, r"architecture\n.*unknown architecture 'gpt2'; use one of llama, qwen2, qwen3"),
        (
            {"settings": {"scale": 2.0}},
            r"settings\.scale: not a setting of llama; remove it, or use one of its settings: none",
        ),
        ({"layers": 3}, "layers"),
    ],
)
def test_bad_field_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        _small(**fields)


def test_unknown_vocabulary_is_a_user_error() -> None:
    config = _small(vocab_size=None)
    with pytest.raises(UserError, match="vocab_size"):
        config.parameter_count()
    with pytest.raises(UserError, match="vocab_size"):
        Decoder(config)
    assert config.model_copy(update={"vocab_size": 9}).parameter_count() > 0


def test_config_loads_no_torch() -> None:
    code = "import sys, thinkling.model.config; print(*{'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_init_follows_the_config() -> None:
    config = _small(hidden_size=256, intermediate_size=512, head_dim=64, vocab_size=400, tie_word_embeddings=False)
    stds = {
        "model.embed_tokens.weight": 0.5 / 16,
        "lm_head.weight": 1 / 16,
        "model.layers.1.self_attn.k_proj.weight": 1 / 16,
        "model.layers.1.self_attn.o_proj.weight": 0.3 / 16,
        "model.layers.0.mlp.up_proj.weight": 1 / 16,
        "model.layers.0.mlp.down_proj.weight": 0.3 / 512**0.5,
    }
    for init, expected in (("fan_in", stds), ("normal", dict.fromkeys(stds, 0.02))):
        model = Decoder(config.model_copy(update={"init": init}))
        model.init_weights(torch.Generator().manual_seed(0))
        weights = dict(model.named_parameters())
        for name, std in expected.items():
            assert weights[name].std().item() == pytest.approx(std, rel=0.03), name
        assert (weights["model.norm.weight"] == 1).all()


def test_init_is_the_generators() -> None:
    first, second, third = (Decoder(_small()) for _ in range(3))
    first.init_weights(torch.Generator().manual_seed(5))
    torch.rand(3)
    second.init_weights(torch.Generator().manual_seed(5))
    third.init_weights(torch.Generator().manual_seed(6))
    pairs = list(zip(first.parameters(), second.parameters(), third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
