from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from thinkling.data.chat_template import CHATML
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate import chat
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained

from .conftest import ScriptedEngine


def _written(tokenizer: Tokenizer, *pieces: tuple[str, bool], reason: Any = "stop") -> Completion:
    found = Completion([], [], [], reason)
    for text, forced in pieces:
        ids = tokenizer.encode(text, markup=True).tolist()
        found.tokens += ids
        found.forced += [forced] * len(ids)
    return found


def _shown(tokenizer: Tokenizer, completion: Completion) -> tuple[str, str]:
    stream = io.StringIO()
    answer = chat.show(completion, tokenizer, Console(file=stream, width=200))
    return answer, stream.getvalue()


def test_thought_call_response_and_answer_are_shown(tokenizer: Tokenizer) -> None:
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "4*8"}}\n</tool_call>'
    turn = "<|im_end|>\n<|im_start|>user\n<tool_response>\n32\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    completion = _written(
        tokenizer, (f"<think>\n4*8\n</think>\n\n{call}", False), (turn, True), ("so 32<|im_end|>", False)
    )
    answer, shown = _shown(tokenizer, completion)
    assert answer == "so 32"
    assert shown.splitlines() == ["4*8", '  → calculator {"expression": "4*8"}', "  ← 32", "so 32"]


def test_output_cannot_steer_the_terminal(tokenizer: Tokenizer) -> None:
    answer, shown = _shown(tokenizer, _written(tokenizer, ("\x1b[2J[red]x\r<|im_end|>", False), reason="length"))
    assert answer.startswith("\x1b")
    assert shown.splitlines() == ["\ufffd[2J[red]x\ufffd", "(cut off: --max-new-tokens reached)"]


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
        chat.converse(model_dir, "sum A1B+5", max_new_tokens=12, seed=seed, console=Console(file=stream))
        shown.append(stream.getvalue())
    assert shown[0] == shown[1] != shown[2]


def test_a_conversation_remembers_and_ends(
    model_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    class Engine(ScriptedEngine):
        def __init__(self, model: Decoder, batch_size: int) -> None:
            super().__init__({})

        def generate(self, requests: Any, sampling: Sampling) -> list[Completion]:
            request: Request = requests[0]
            prompts.append(tokenizer.decode(request.prompt))
            ids = tokenizer.encode("<think>\nA\n</think>\n\n12<|im_end|>", markup=True).tolist()
            return [Completion(ids, [0.0] * len(ids), [0] * len(ids), "stop")]

    monkeypatch.setattr(chat, "NativeEngine", Engine)
    lines = iter(["sum A1", "sum B2"])
    monkeypatch.setattr(chat, "_read", lambda console: next(lines, ""))
    chat.converse(model_dir, None, console=Console(file=io.StringIO()))
    assert len(prompts) == 2
    assert "sum A1" in prompts[1]
    assert "12<|im_end|>" in prompts[1]
    assert "sum B2" in prompts[1]
