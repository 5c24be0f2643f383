"""The trial for "Adding a decoder family": two of transformers' families, added from outside the package.

Granite scales embeddings by a setting of its own, and here may also stretch its positions. OLMo2 norms the output of a
block instead of its input (a feature), and queries and keys over all heads at once (a layer of its own). Neither
touches a file of thinkling.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM, Olmo2Config, Olmo2ForCausalLM

from thinkling import plugins
from thinkling.errors import UserError
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine, weights
from thinkling.model import families, fused
from thinkling.model.attention import DocumentLayout, packed_attention
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Attention, Decoder, DecoderLayer, RMSNorm
from thinkling.model.families.base import Family, Features, NormNames, read_fields, write_fields
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.model.loss import chunked_cross_entropy
from thinkling.model.rotary import Rotary, rotary_tables, rotate
from thinkling.plugins import Registry

# --- what a package would hold: Granite ---


def granite_features(config: ModelConfig) -> Features:
    factor = float(GRANITE.setting(config, "embedding_multiplier"))
    return Features(
        embedding_scale=factor, rotary=granite_rotary if GRANITE.setting(config, "rope_factor") != 1 else None
    )


def granite_rotary(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    return rotary_tables(positions / GRANITE.setting(config, "rope_factor"), config.head_dim, config.rope_theta)


def read_granite(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    rope = raw.get("rope_parameters", {})
    factor = rope["factor"] if rope.get("rope_type") == "linear" else 1.0
    found = read_fields({**raw, "rope_parameters": rope | {"rope_type": "default"}}, path)
    settings = {"embedding_multiplier": raw.get("embedding_multiplier", 1.0), "rope_factor": factor}
    plain = {"residual_multiplier": 1.0, "logits_scaling": 1.0, "attention_multiplier": found["head_dim"] ** -0.5}
    for name, value in plain.items():
        if raw.get(name, 1.0) != value:
            raise UserError(f"{path}: {name} other than {value} is not supported")
    return found | {"settings": settings}


def write_granite(config: ModelConfig) -> dict[str, Any]:
    found = write_fields(config) | {"attention_multiplier": config.head_dim**-0.5}
    if (factor := GRANITE.setting(config, "rope_factor")) != 1:
        found["rope_parameters"] |= {"rope_type": "linear", "factor": factor}
    return found


GRANITE = Family(
    model_type="granite",
    class_name="GraniteForCausalLM",
    features=granite_features,
    read=read_granite,
    write=write_granite,
    settings={"embedding_multiplier": 1.0, "rope_factor": 1.0},
)

# --- what a package would hold: OLMo2 ---


class Olmo2Attention(Attention):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.q_norm = RMSNorm(self.heads * self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.kv_heads * self.head_dim, config.rms_norm_eps)

    def forward(self, x_ND: Tensor, rotary: Rotary, layout: DocumentLayout) -> Tensor:
        shape = (*layout.positions_BT.shape, -1, self.head_dim)
        q, k = self.q_norm(self.q_proj(x_ND)).view(shape), self.k_norm(self.k_proj(x_ND)).view(shape)
        q, k = (rotate(x, rotary.cos_BTC, rotary.sin_BTC) for x in (q, k))
        o = packed_attention(q, k, self.v_proj(x_ND).view(shape), layout)
        return self.o_proj(o.reshape(len(x_ND), -1))


def olmo2_layer(config: ModelConfig, number: int) -> DecoderLayer:
    layer = DecoderLayer(config)
    layer.self_attn = Olmo2Attention(config)
    return layer


def olmo2_features(config: ModelConfig) -> Features:
    return Features(
        norms=NormNames(None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
        layer=olmo2_layer,
        extra_layer_parameters=config.head_dim * (config.num_attention_heads + config.num_key_value_heads),
    )


OLMO2 = Family(model_type="olmo2", class_name="Olmo2ForCausalLM", features=olmo2_features)

# --- and that it works ---

SHAPE: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "tie_word_embeddings": False,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"granite": {"embedding_multiplier": 3.5, "rope_factor": 4.0}, "olmo2": {}}
PEERS: dict[str, Any] = {
    "granite": lambda: GraniteForCausalLM(
        GraniteConfig(**SHAPE, attention_multiplier=12**-0.5, embedding_multiplier=6)
    ),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SHAPE)),
}
TOKENS = torch.randint(61, (3, 32), generator=torch.Generator().manual_seed(4))
LENGTHS = [[9, 3, 20], [32], [5, 20]]


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package with two entry points were installed, and thinkling had neither family."""
    package = ModuleType("package_with_families")
    package.GRANITE, package.OLMO2 = GRANITE, OLMO2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    points = [
        EntryPoint("granite", "package_with_families:GRANITE", "thinkling.families"),
        EntryPoint("olmo2", "package_with_families:OLMO2", "thinkling.families"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    built_in = {name: at for name, at in families.FAMILIES.built_in.items() if name not in SETTINGS}
    registry = Registry(families.FAMILIES.what, families.FAMILIES.group, built_in)
    for module in ("families", "config", "huggingface"):
        monkeypatch.setattr(f"thinkling.model.{module}.FAMILIES", registry)


def model_of(architecture: str) -> Decoder:
    model = Decoder(ModelConfig(architecture=architecture, settings=SETTINGS[architecture], **SHAPE))
    generator = torch.Generator().manual_seed(0)
    model.init_weights(generator)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return model


def assert_equal(found: Tensor, reference: Tensor) -> None:
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("architecture", SETTINGS)
def test_an_added_family_trains_exports_and_reloads(architecture: str, tmp_path: Path) -> None:
    model = model_of(architecture)
    assert model.config.parameter_count() == sum(p.numel() for p in model.parameters())
    layout = DocumentLayout.from_lengths(LENGTHS, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        loss = chunked_cross_entropy(model(TOKENS, layout).flatten(0, 1), model.output_weight, TOKENS.flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    save_pretrained(model, tmp_path / "a")
    again = load_pretrained(tmp_path / "a")
    assert again.config == model.config
    save_pretrained(again, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("architecture", SETTINGS)
def test_an_added_familys_logits_are_transformers_both_ways(architecture: str, tmp_path: Path) -> None:
    model = model_of(architecture)
    save_pretrained(model, tmp_path / "ours")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        assert_equal(model.logits(model(TOKENS)), peer(input_ids=TOKENS).logits)
        packed = model.logits(model(TOKENS, DocumentLayout.from_lengths(LENGTHS, 32)))
        for row, lengths in enumerate(LENGTHS):
            for documents in range(len(lengths)):
                inside = slice(sum(lengths[:documents]), sum(lengths[: documents + 1]))
                assert_equal(packed[row, inside], peer(input_ids=TOKENS[row : row + 1, inside]).logits[0])
    PEERS[architecture]().save_pretrained(tmp_path / "theirs")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    read = load_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        assert_equal(read.logits(read(TOKENS)), theirs(input_ids=TOKENS).logits)


@pytest.mark.parametrize("architecture", SETTINGS)
def test_the_native_engine_samples_from_an_added_family(architecture: str) -> None:
    """Where a family has a layer of its own, by the decoder's plain forward."""
    model = model_of(architecture)
    assert fused.supports(model.config) == weights.supports(model.config) == (architecture == "granite")
    prompts = [(1, 2, 3), (4,), (5, 6), (1, 2, 3)]
    asked = [Request(prompt, seed, 4 + 3 * seed) for seed, prompt in enumerate(prompts)]
    for found, request in zip(NativeEngine(model, 2).generate(asked, Sampling(0.0)), asked, strict=True):
        with torch.no_grad():
            ids = torch.tensor([[*request.prompt, *found.tokens]])
            logits = model.logits(model(ids))[0, len(request.prompt) - 1 : -1]
        assert found.tokens == logits.argmax(-1).tolist()
        assert len(found.tokens) == request.max_new_tokens
        picked = torch.log_softmax(logits, -1).amax(-1)
        assert torch.allclose(picked, torch.tensor(found.logprobs), atol=1e-5)


def test_the_plain_engine_keeps_its_weights_until_they_are_updated() -> None:
    model = model_of("olmo2")
    engine = NativeEngine(model, 2)
    asked = [Request((1, 2), 0, 6)]
    before = engine.generate(asked, Sampling(0.0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(-1.1)
    assert engine.generate(asked, Sampling(0.0)) == before
    engine.update_weights(1)
    assert engine.generate(asked, Sampling(0.0))[0].tokens != before[0].tokens


def test_the_plain_forward_is_the_fused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a family which the fused block does not support is only slower."""
    model = model_of("granite")
    with torch.no_grad():
        reference = model(TOKENS)
        for layer in model.model.layers:
            monkeypatch.setattr(layer, "fused", False)
        assert F.mse_loss(model(TOKENS), reference) < 1e-10
        assert_equal(model(TOKENS), reference)


def test_a_scaling_that_a_familys_own_frequencies_would_hide_is_refused() -> None:
    scaled = SHAPE | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert ModelConfig(architecture="granite", **scaled).rope_scaling is not None
    with pytest.raises(
        ValueError, match="rope_scaling: granite defines its own rotary frequencies; remove rope_scaling"
    ):
        ModelConfig(architecture="granite", settings={"rope_factor": 4.0}, **scaled)


def test_a_setting_that_no_file_names_has_the_familys_default(tmp_path: Path) -> None:
    model = Decoder(ModelConfig(architecture="granite", **SHAPE))
    assert model.embedding_scale == 1.0
    save_pretrained(model, tmp_path)
    assert '"embedding_multiplier": 1.0' in (tmp_path / "config.json").read_text()
    with pytest.raises(
        ValueError, match=r"settings\.factor: not a setting of granite; remove it, or use one of its settings: embed"
    ):
        ModelConfig(architecture="granite", settings={"factor": 2.0}, **SHAPE)
