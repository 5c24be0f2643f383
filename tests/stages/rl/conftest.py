"""A tiny model, its tokenizer, and a model directory that a stage can start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate import score
from thinkling.generate.engine import Completion, Sampling
from thinkling.generate.renderer import Renderer
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.puzzles import problemset
from thinkling.puzzles.pages import document


def stop_at_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token ends a sample, and is read: nothing is cut off, and random weights answer something."""
    generate = score.generate_with_tools

    def stopping(
        engine: Any, requests: Any, tools: Any, sampling: Sampling, renderer: Renderer, **other: Any
    ) -> list[Completion]:
        every = frozenset(range(renderer.tokenizer.vocab_size))
        return generate(engine, requests, tools, replace(sampling, stop_ids=every), renderer, **other)

    monkeypatch.setattr(score, "generate_with_tools", stopping)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    problems = problemset.generate({"sort": {}, "maximum": {}}, "train", 40, seed=1)
    return train_bpe([document(problem) for problem in problems], 268)


@pytest.fixture(scope="session")
def decoder(tokenizer: Tokenizer) -> Decoder:
    """Random weights; sampled at any temperature they give every token about equally often."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    made = Decoder(config)
    made.init_weights(torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="session")
def start(decoder: Decoder, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of that model."""
    directory = tmp_path_factory.mktemp("start")
    tokenizer.with_chat_template(OURS.source).save(directory / "tokenizer")
    save_pretrained(decoder, directory / "model", directory / "tokenizer", {})
    return directory / "model"
