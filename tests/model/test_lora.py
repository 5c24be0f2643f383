"""Adapters: what they compute, what is merged, and that peft reads them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from thinkling.errors import UserError
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import LoraConfig, ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.families import FAMILIES
from thinkling.model.families.base import Features
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.model.lora import CONFIG, WEIGHTS, add_adapters, is_adapter, merged_decoder, save_adapters, set_dtype

SIZES: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
BUILT_IN = ["llama", "qwen2", "qwen3", "phi3", "olmo2", "granite", "gemma2", "gemma3_text", "smollm3", "mistral"]
TOKENS = torch.randint(0, 61, (3, 12), generator=torch.Generator().manual_seed(1))
PACKED = [[5, 7], [12], [3, 4]]


def shape(family: str = "llama", **more: Any) -> ModelConfig:
    return ModelConfig.model_validate({"architecture": family, **SIZES, **more})


def plain(config: ModelConfig) -> Decoder:
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def adapted(config: ModelConfig, lora: LoraConfig | None = None, noise: float = 0.1) -> Decoder:
    """A model whose adapters have an effect."""
    model = plain(config)
    add_adapters(model, lora or LoraConfig(rank=4, alpha=8), seed=3)
    generator = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        if name.endswith("lora_B.weight"):
            p.data.normal_(0.0, noise, generator=generator)
    return model


def logits(model: Decoder, lengths: list[list[int]] | None = None) -> Tensor:
    layout = None if lengths is None else DocumentLayout.from_lengths(lengths, TOKENS.shape[1])
    with torch.no_grad():
        return model.logits(model(TOKENS, layout))


def close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_new_adapters_change_nothing() -> None:
    model, base = adapted(shape(), noise=0.0), plain(shape())
    close(logits(model), logits(base))
    assert all(torch.equal(p, model.state_dict()[name]) for name, p in base.named_parameters())


@pytest.mark.parametrize("family", BUILT_IN)
@pytest.mark.parametrize("lengths", [None, PACKED], ids=["whole", "packed"])
def test_merged_weights_compute_the_same(family: str, lengths: list[list[int]] | None) -> None:
    model = adapted(shape(family))
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    merged = merged_decoder(model, tensors)
    # States of padding mean nothing.
    inside = torch.stack([torch.arange(12) < sum(row) for row in lengths or [[12]] * 3])
    found, wanted = logits(merged, lengths)[inside], logits(model, lengths)[inside]
    close(found, wanted)
    without = logits(plain(shape(family)), lengths)[inside]
    assert (wanted - without).norm() > 0.01 * without.norm()
    assert merged.lora is None
    assert merged.state_dict().keys() == plain(shape(family)).state_dict().keys()
    assert model.config.linear_layers() == {
        name: (module.in_features, module.out_features)
        for block in (merged.model.layers[1].self_attn, merged.model.layers[1].mlp)  # pyright: ignore
        for name, module in block.named_children()
        if isinstance(module, torch.nn.Linear)
    }


def test_every_built_in_family_is_covered() -> None:
    assert set(BUILT_IN) <= set(FAMILIES.names())


@pytest.mark.parametrize("target", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
def test_one_target_alone(target: str) -> None:
    lora = LoraConfig.model_validate({"rank": 2, "alpha": 2, "targets": [target]})
    model, base = adapted(shape("qwen2"), lora), plain(shape("qwen2"))
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {target}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == lora.parameter_count(model.config)
    close(logits(merged_decoder(model, model.state_dict())), logits(model))
    assert (logits(model) - logits(base)).norm() > 1e-4


def test_gradients_are_those_of_the_factors() -> None:
    model = adapted(shape())
    merged = merged_decoder(model, model.state_dict()).requires_grad_(True)
    for each in (model, merged):
        each.logits(each(TOKENS)).square().sum().backward()
    scale = 2.0
    for name, p in model.named_parameters():
        if not is_adapter(name):
            assert p.grad is None
            continue
        assert p.grad is not None
        layer = name.rpartition(".lora_")[0]
        whole = merged.get_parameter(f"{layer}.weight").grad
        assert whole is not None
        a, b = (model.get_parameter(f"{layer}.lora_{x}.weight") for x in "AB")
        wanted = scale * (b.T @ whole if name.endswith("lora_A.weight") else whole @ a.T)
        assert torch.allclose(p.grad, wanted, rtol=1e-3, atol=1e-4 * float(wanted.detach().abs().max()))


def test_the_engine_samples_with_merged_weights_and_refreshes_them() -> None:
    model = adapted(shape(), noise=0.0)
    engine = NativeEngine(model, 4)
    asked = [Request((1, 2, 3), 5, 8)]
    before = engine.generate(asked, Sampling(0.0))[0]
    assert before.tokens == NativeEngine(plain(shape()), 4).generate(asked, Sampling(0.0))[0].tokens
    changed = adapted(shape(), noise=0.5)
    model.load_state_dict(changed.state_dict())
    assert engine.generate(asked, Sampling(0.0))[0].tokens == before.tokens
    engine.update_weights(1)
    after = engine.generate(asked, Sampling(1.0))[0]
    row = torch.tensor([[1, 2, 3, *after.tokens]])
    with torch.no_grad():
        wanted = model.logits(model(row))[0, 2:-1].log_softmax(-1)
    picked = wanted.gather(1, torch.tensor(after.tokens)[:, None]).flatten()
    assert torch.allclose(torch.tensor(after.logprobs), picked, atol=1e-4)


def test_adapters_stay_in_fp32_and_the_seed_decides() -> None:
    model, same, other = plain(shape()), plain(shape()), plain(shape())
    for each, seed in ((model, 1), (same, 1), (other, 2)):
        add_adapters(each, LoraConfig(), seed)
    set_dtype(model, torch.bfloat16)
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if is_adapter(name) else torch.bfloat16)
        assert not is_adapter(name) or torch.equal(p, same.get_parameter(name))
    a = "model.layers.0.mlp.up_proj.lora_A.weight"
    assert not torch.equal(same.get_parameter(a), other.get_parameter(a))
    assert float(same.get_parameter(a).detach().abs().max()) <= 1 / 4


def test_a_layer_that_the_model_lacks() -> None:
    with pytest.raises(UserError, match=r"lora.targets: phi3 models have no layer 'q_proj'; use some of qkv_proj, o_p"):
        add_adapters(plain(shape("phi3")), LoraConfig(targets=["q_proj"]), 0)


def test_layers_of_a_package_may_not_use_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelConfig, "features", Features(layer=lambda config, number: None))
    assert "lora: the layers of llama models are defined by a package" in (LoraConfig().mismatch(shape()) or "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": []}, "at least 1 item"),
        ({"targets": ["q_proj", "q_proj"]}, "'q_proj' is listed twice"),
        ({"targets": ["lm_head"]}, "q_proj"),
        ({"rank": 0}, "greater than or equal to 1"),
        ({"dropout": 0.1}, "Extra inputs"),
    ],
)
def test_mistakes_in_the_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig.model_validate(fields)


def test_files_of_the_adapters(tmp_path: Path) -> None:
    model = adapted(shape("phi3"))
    save_adapters(model, tmp_path / "a")
    save_adapters(copy.deepcopy(model), tmp_path / "b")
    written = load_file(tmp_path / "a" / WEIGHTS)
    assert written["base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"].shape == (4, 16)
    assert written["base_model.model.model.layers.1.mlp.gate_up_proj.lora_B.weight"].shape == (48, 4)
    assert len(written) == 2 * 2 * 4
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8, "LORA")
    assert config["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("family", BUILT_IN)
def test_peft_computes_the_same_logits(family: str, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    model = adapted(shape(family), LoraConfig(rank=3, alpha=5))
    save_pretrained(plain(shape(family)), tmp_path / "model")
    save_adapters(model, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        found = theirs(TOKENS).logits
        close(found, logits(model))
        merged = theirs.merge_and_unload()  # pyright: ignore
        close(merged(TOKENS).logits, logits(model))
    save_pretrained(merged_decoder(model, model.state_dict()), tmp_path / "merged")
    ours = load_pretrained(tmp_path / "merged").state_dict()
    for name, weight in merged.state_dict().items():
        if name in ours:
            assert torch.allclose(weight, ours[name], atol=1e-6)
