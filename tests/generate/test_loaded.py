"""A model directory, loaded in one place, and its engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from thinkling.data.chat_template import CHATML
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.loaded import LoadedModel
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.device import default_device
from thinkling.model.huggingface import save_pretrained
from thinkling.puzzles.renderer import PageRenderer


@pytest.fixture
def model_dir(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, num_key_value_heads=1, head_dim=8, **shape))
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer.with_chat_template(CHATML).save(tmp_path / "tokenizer")
    save_pretrained(model, tmp_path / "model", tmp_path / "tokenizer", {})
    return tmp_path / "model"


def test_everything_of_a_directory(model_dir: Path) -> None:
    loaded = LoadedModel.load(model_dir)
    assert (loaded.directory, loaded.device) == (model_dir, default_device())
    assert loaded.renderer.template.source == CHATML
    assert loaded.tokenizer is loaded.renderer.tokenizer
    assert not any(p.requires_grad for p in loaded.decoder.parameters())
    assert all(p.requires_grad for p in LoadedModel.load(model_dir, trainable=True).decoder.parameters())
    assert LoadedModel.load(model_dir, dtype=torch.float64).decoder.output_weight.dtype == torch.float64


def test_the_engine_of_a_model(model_dir: Path) -> None:
    engine = make_engine(LoadedModel.load(model_dir), max_concurrent=2)
    requests = [Request((1, 2), seed, 4) for seed in range(5)]
    first = engine.generate(requests, Sampling(1.0, 1.0))
    engine.release()
    assert [c.tokens for c in engine.generate(requests, Sampling(1.0, 1.0))] == [c.tokens for c in first]


def test_a_renderer_of_a_package(model_dir: Path) -> None:
    assert isinstance(LoadedModel.load(model_dir, renderer="puzzle_pages").renderer, PageRenderer)
    with pytest.raises(UserError, match="unknown renderer 'poems'; use one of chat, puzzle_answers, puzzle_pages"):
        LoadedModel.load(model_dir, renderer="poems")


def test_the_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_device() == torch.device("cpu")


def test_padding_beyond_the_embedding_is_named_before_training(model_dir: Path) -> None:
    path = model_dir / "tokenizer.json"
    spec = json.loads(path.read_text())
    number = (
        max(token["id"] for token in [*spec["added_tokens"], *({"id": i} for i in spec["model"]["vocab"].values())]) + 1
    )
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec["added_tokens"].append({"id": number, "content": "[PAD]", "special": True, **flags})
    path.write_text(json.dumps(spec))
    settings = model_dir / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"pad_token": "[PAD]"}))
    assert LoadedModel.load(model_dir).tokenizer.pad_id == number  # sampling pads with nothing
    with pytest.raises(
        UserError, match=rf"padding has id {number}, but the embedding has only {number} rows; set a different"
    ):
        LoadedModel.load(model_dir, trainable=True)
