"""Directories that transformers reads equal, and reads of transformers' own directories."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from thinkling.data import tokenizer
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
    save_pretrained(_model(), tmp_path / "model", source, {"temperature": 0.6}, {0, 2})
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not (tmp_path / "model" / "notes.txt").exists()
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation == {"temperature": 0.6, "eos_token_id": [2, 0], "pad_token_id": 0}


def _tokenizer_dir(directory: Path, eos: str, added: dict[str, int]) -> Path:
    directory.mkdir()
    tokens = [{"content": content, "id": number} for content, number in added.items()]
    (directory / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "pad_token": "[PAD]"}))
    return directory


def test_all_ends_of_text_are_kept_and_the_end_of_a_turn_is_named(tmp_path: Path) -> None:
    added = {"<|end_of_text|>": 1, "<|eom_id|>": 8, "<|eot_id|>": 9, "[PAD]": 10}
    source = _tokenizer_dir(tmp_path / "tokenizer", "<|end_of_text|>", added)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 8], "bos_token_id": 0}))
    (source / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    save_pretrained(_model(), tmp_path / "model", source, stop_ids={1, 9})
    for name in ("generation_config.json", "config.json"):
        found = json.loads((tmp_path / "model" / name).read_text())
        assert (found["eos_token_id"], found["bos_token_id"], found["pad_token_id"]) == ([1, 8, 9], 0, 10)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").generation_config.eos_token_id == [1, 8, 9]


def test_a_base_models_end_of_text_does_not_hide_the_end_of_a_turn(tmp_path: Path) -> None:
    source = _tokenizer_dir(tmp_path / "tokenizer", "<|endoftext|>", {"<|endoftext|>": 0, "<|im_end|>": 2})
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    save_pretrained(_model(), tmp_path / "model", source, stop_ids={2, 0})
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text()) == {"eos_token_id": [0, 2]}


def test_an_export_names_the_ends_at_which_our_engine_stops(tmp_path: Path) -> None:
    ours = tokenizer.train_bpe(["the quick brown fox " * 20], 270)
    ours.save(tmp_path / "tokenizer")
    save_pretrained(_model(vocab_size=270), tmp_path / "model", tmp_path / "tokenizer", stop_ids=ours.stop_ids)
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert set(generation["eos_token_id"]) == tokenizer.Tokenizer.load(tmp_path / "model").stop_ids


def test_ids_beyond_the_embedding_are_left_out(tmp_path: Path) -> None:
    """transformers loads no model whose padding is beyond the embedding."""
    source = _tokenizer_dir(tmp_path / "tokenizer", "<|im_end|>", {"<|im_end|>": 60, "[PAD]": 61})
    save_pretrained(_model(), tmp_path / "model", source)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["eos_token_id"], config.get("pad_token_id")) == (60, None)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.vocab_size == 61


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic' is not supported; use one of linear, l"),
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, "longrope"),
        ({"rope_scaling": {"type": "linear"}}, r"rope_scaling\.factor: Field required"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0, "beta_fast": 2}}, "linear does not use beta_fast; remove"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "llama3 requires high_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"num_hidden_layers": 3}, r"layers\.2\.\S+ is missing"),
        ({"intermediate_size": 47}, "mlp.down_proj.weight has shape"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"num_hidden_layers": 1}, r"a llama model has no weight model\.layers\.1\."),
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


def _rewrite(directory: Path, **tensors: torch.Tensor) -> None:
    path = directory / "model.safetensors"
    save_file(load_file(path) | {name.replace("__", "."): t for name, t in tensors.items()}, path)


def test_a_stored_head_that_disagrees_with_tied_is_refused(saved: Path) -> None:
    embedding = load_file(saved / "model.safetensors")["model.embed_tokens.weight"]
    _rewrite(saved, lm_head__weight=embedding.clone())
    assert load_pretrained(saved).config.tie_word_embeddings
    for head in (embedding + 0.1, embedding[:-1].clone()):
        _rewrite(saved, lm_head__weight=head)
        with pytest.raises(UserError, match=r"tie_word_embeddings is true .* lm_head.weight that differs .* to false"):
            load_pretrained(saved)
    _rewrite(saved, lm_head__weight=embedding + 0.1)
    _edit(saved, tie_word_embeddings=False)
    assert torch.equal(load_pretrained(saved).output_weight, embedding + 0.1)


def test_rotary_buffers_of_old_files_are_passed_over(saved: Path) -> None:
    _rewrite(saved, **{f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(2)})
    model = load_pretrained(saved)
    save_pretrained(model, saved / "again")
    assert not [name for name in load_file(saved / "again" / "model.safetensors") if "inv_freq" in name]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"])
def test_a_pickle_is_named_with_the_cure(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"\x80")
    assert load_pretrained(saved).config.vocab_size == 61  # beside safetensors it does no harm
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=rf"{name}: pickles are not loaded because .*convert the file to model\.safetens"
    ):
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
