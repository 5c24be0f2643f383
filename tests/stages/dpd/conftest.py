"""Pairs, models and an engine that knows the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.dpd.knowing import KnowingEngine
from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.rollouts import Rollout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.puzzles import problemset
from thinkling.puzzles.examples import conversation
from thinkling.puzzles.pages import document
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.pairs import Pair, Side

VOCAB = 23


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = []
    for problem in problemset.generate({"sort": {}, "calc": {}}, "train", 60, seed=1):
        texts += [document(problem), " ".join(str(message["content"]) for message in conversation(problem))]
    return train_bpe(texts, 300, chat_template=OURS.source)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Decoder]:
    def make(seed: int = 0, vocab: int = VOCAB, hidden: int = 16, double: bool = False) -> Decoder:
        shape = ModelConfig(
            vocab_size=vocab, hidden_size=hidden, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8,
        )  # fmt: skip
        made = Decoder(shape)
        made.init_weights(torch.Generator().manual_seed(seed))
        return made.double() if double else made

    return make


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., Pair]:
    """A pair of random tokens; the second and third tokens of y⁺ came from a tool."""

    def make(number: int, references: tuple[float | None, float | None] = (-7.5, -9.25)) -> Pair:
        rng = np.random.default_rng(number)
        prompt, good, bad = (rng.integers(1, VOCAB, n).tolist() for n in (3, 4 + number % 5, 2 + number % 4))
        forced = [i in (1, 2) for i in range(len(good))]
        chosen = Side(0, "good", good, forced, references[0])
        rejected = Side(1, "bad", bad, [False] * len(bad), references[1])
        return Pair(f"p{number}", "sort", "q", "a", prompt, 1.0, chosen, rejected)

    return make


@pytest.fixture(scope="session")
def make_config() -> Callable[..., DpdConfig]:
    def make(**fields: Any) -> DpdConfig:
        return DpdConfig.model_validate(
            {
                "kind": "dpd", "inputs": {"model": "sft", "teacher": "t"}, "steps": 6, "batch_size": 4,
                "sequence_length": 128, "optimizer": {"lr": 1e-2}, "checkpoint_every": 2,
                "problems": [{"source": "puzzles", "n_problems": 24}],
                "pairs": {"student_samples": 2, "max_new_tokens": 96},
            }
            | fields
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def make_rollout() -> Callable[..., Rollout]:
    def make(problem: str, sample: int, outcome: str, tokens: Sequence[int] = (5, 6), finish: str = "stop") -> Rollout:
        n = len(tokens)
        return Rollout(
            problem, "sort", sample, "q", "a", "text", outcome, "exact", "", True, finish, [1, 2], list(tokens),
            [0.0] * n, [0] * n, [False] * n,
        )  # fmt: skip

    return make


@pytest.fixture
def knowing() -> type[KnowingEngine]:
    return KnowingEngine


@pytest.fixture
def save_model(tokenizer: Tokenizer, make_model: Callable[..., Decoder]) -> Callable[..., Path]:
    def save(directory: Path, **shape: int) -> Path:
        tokenizer.save(directory / "tokenizer")
        save_pretrained(make_model(vocab=300, **shape), directory / "model", directory / "tokenizer", {})
        return directory

    return save
