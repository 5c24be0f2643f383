"""Directories that transformers reads equal, and reads of transformers' own directories."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, read_config, save_pretrained


def _model(**fields: object) -> Decoder:
    shape = {
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "rope_theta": 7e4,
    }
    model = Decoder(ModelConfig.model_validate(shape | fields))
    model.init_weights(torch.Generator().manual_seed(0))
    return model


TOKENS = torch.randint(61, (2, 33), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_pretrained(_model(), tmp_path)
    return tmp_path


def _edit(directory: Path, **fields: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_equal_logits(architecture: str, tied: bool, tmp_path: Path) -> None:
    model = _model(architecture=architecture, tie_word_embeddings=tied)
    save_pretrained(model, tmp_path, None, {"temperature": 0.6, "top_p": 0.95, "do_sample": True})
    peer = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        reference, found = model.logits(model(TOKENS)), peer(input_ids=TOKENS).logits
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()
    assert peer.generation_config.temperature == 0.6
    assert peer.config.rope_parameters["rope_theta"] == 7e4


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(architecture: str, tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    model = _model(architecture=architecture, tie_word_embeddings=tied).to(dtype)
    save_pretrained(model, tmp_path)
    again = load_pretrained(tmp_path)
    save_pretrained(again, tmp_path / "again")
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
    assert again.config == model.config
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == dtype
        assert torch.equal(state[name], tensor)
    assert all(p.requires_grad and not p.is_meta for p in again.parameters())
    assert next(load_pretrained(tmp_path, torch.float64).parameters()).dtype == torch.float64


def test_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_pretrained(_model(), tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["config.json", "generation_config.json", "model.safetensors"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_reads_transformers_sharded_directory(tmp_path: Path) -> None:
    config = Qwen3Config(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        rope_parameters={"rope_type": "default", "rope_theta": 7e4},
    )
    peer = Qwen3ForCausalLM(config)
    peer.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    model = load_pretrained(tmp_path)
    with torch.no_grad():
        reference, found = peer(input_ids=TOKENS).logits, model.logits(model(TOKENS))
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_tokenizer_files_and_ids_go_along(tmp_path: Path) -> None:
    source = tmp_path / "tokenizer"
    source.mkdir()
    added = [{"content": "<|endoftext|>", "id": 0}, {"content": "<|im_end|>", "id": 2}]
    (source / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    tokens = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}
    (source / "tokenizer_config.json").write_text(json.dumps(tokens))
    (source / "chat_template.jinja").write_text("{{ messages }}")
    (source / "notes.txt").write_text("stays")
    save_pretrained(_model(), tmp_path / "model", source, {"temperature": 0.6})
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not (tmp_path / "model" / "notes.txt").exists()
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation == {"temperature": 0.6, "eos_token_id": 2, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "llama3"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"num_hidden_layers": 3}, r"layers\.2\.\S+ is missing"),
        ({"intermediate_size": 47}, "mlp.down_proj.weight has shape"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"num_hidden_layers": 1}, r"layers\.1\.\S+ belongs to no llama decoder"),
    ],
)
def test_unsupported_is_a_user_error_that_names_it(saved: Path, fields: dict[str, Any], named: str) -> None:
    _edit(saved, **fields)
    with pytest.raises(UserError, match=named) as caught:
        load_pretrained(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{]", b"[1]"])
def test_unreadable_file_is_named(saved: Path, name: str, content: bytes | None) -> None:
    path = saved / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=name):
        load_pretrained(saved)


def test_index_does_not_lead_out_of_the_directory(saved: Path) -> None:
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(UserError, match="outside the directory"):
        load_pretrained(saved)
    (saved / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="weight_map is missing"):
        load_pretrained(saved)


def test_defaults_are_transformers(saved: Path) -> None:
    raw = json.loads((saved / "config.json").read_text())
    for name in ("head_dim", "rope_theta", "rope_parameters", "num_key_value_heads", "tie_word_embeddings"):
        del raw[name]
    (saved / "config.json").write_text(json.dumps(raw))
    config = read_config(saved)
    assert (config.head_dim, config.num_key_value_heads, config.rope_theta) == (8, 4, 1e4)
    assert not config.tie_word_embeddings
    (saved / "config.json").write_text(json.dumps(raw | {"model_type": "qwen3"}))
    assert read_config(saved).head_dim == 128
