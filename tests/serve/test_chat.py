from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.generate.conftest import ScriptedEngine
from thinkling.data import hub
from thinkling.data.chat_template import CHATML
from thinkling.data.hub import Snapshot
from thinkling.data.reading import Part
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.loaded import LoadedModel
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.serve import chat


def test_output_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    answer = chat.show([Part("reasoning", "a"), Part("answer", "\x1b[2J[red]x\r")], Console(file=stream, width=200))
    assert answer.startswith("\x1b")
    assert stream.getvalue().splitlines() == ["a", "\ufffd[2J[red]x\ufffd"]


@pytest.fixture
def model_dir(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, num_key_value_heads=1, head_dim=8, **shape))
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer.with_chat_template(CHATML).save(tmp_path / "tokenizer")
    save_pretrained(model, tmp_path / "model", tmp_path / "tokenizer", {})
    return tmp_path / "model"


def test_a_prompt_is_answered_once_and_alike(model_dir: Path) -> None:
    shown = []
    for seed in (0, 0, 1):
        stream = io.StringIO()
        chat.converse(str(model_dir), "sum A1B+5", max_new_tokens=12, seed=seed, console=Console(file=stream))
        shown.append(stream.getvalue())
    assert shown[0] == shown[1] != shown[2]


def test_a_conversation_remembers_and_ends(
    model_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    class Engine(ScriptedEngine):
        def __init__(self, loaded: LoadedModel, max_concurrent: int) -> None:
            super().__init__({})

        def generate(self, requests: Any, sampling: Sampling) -> list[Completion]:
            request: Request = requests[0]
            prompts.append(tokenizer.decode(request.prompt))
            ids = tokenizer.encode("<think>\nA\n</think>\n\n12<|im_end|>", markup=True).tolist()
            return [Completion(ids, [0.0] * len(ids), [0] * len(ids), "stop")]

    monkeypatch.setattr(chat, "make_engine", Engine)
    lines = iter(["sum A1", "sum B2"])
    monkeypatch.setattr(chat, "_read", lambda console: next(lines, ""))
    chat.converse(str(model_dir), None, console=Console(file=io.StringIO()))
    assert len(prompts) == 2
    assert "sum A1" in prompts[1]
    assert "12<|im_end|>" in prompts[1]
    assert "sum B2" in prompts[1]


def test_an_answer_longer_than_the_context_was_refused(model_dir: Path) -> None:
    """256 new tokens are the default, and nano's model has 128 positions."""
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    stream = io.StringIO()
    chat.converse(str(model_dir), "sum A1B+5", console=Console(file=stream, width=200))
    assert "max_new_tokens" not in stream.getvalue()
    (model_dir / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4}))
    with pytest.raises(UserError, match="max_position_embeddings 4"):
        chat.converse(str(model_dir), "sum A1B+5", console=Console(file=stream, width=200))


def test_a_system_prompt_could_not_be_given(
    model_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine({})
    prompts: list[str] = []

    def generate(requests: list[Request], sampling: Sampling) -> list[Completion]:
        prompts.extend(tokenizer.decode(request.prompt) for request in requests)
        ids = tokenizer.encode("12<|im_end|>", markup=True).tolist()
        return [Completion(ids, [0.0] * len(ids), [0] * len(ids), "stop")]

    monkeypatch.setattr(engine, "generate", generate)
    monkeypatch.setattr(chat, "make_engine", lambda *_, **__: engine)
    lines = iter(["sum A1", "sum B2"])
    monkeypatch.setattr(chat, "_read", lambda console: next(lines, ""))
    chat.converse(str(model_dir), None, "answer in digits", console=Console(file=io.StringIO()))
    assert [prompt.count("answer in digits") for prompt in prompts] == [1, 1]
    assert all(prompt.index("system") < prompt.index("answer in digits") < prompt.index("sum A1") for prompt in prompts)


def test_a_name_on_the_hub_was_taken_for_a_directory_without_a_tokenizer(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`an-organisation/a-model: no tokenizer.json; create it with transformers`, though there is no such directory."""
    stream = io.StringIO()
    monkeypatch.setattr(chat, "snapshot", lambda repo, kind: Snapshot(model_dir, f"commit of {repo}"))
    chat.converse("an-organisation/a-model", "sum A1B+5", max_new_tokens=4, console=Console(file=stream))
    assert stream.getvalue()
    monkeypatch.setattr(chat, "snapshot", hub.snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="no such local path, and the model with this name"):
        chat.converse("an-organisation/another-model", "sum A1B+5")
