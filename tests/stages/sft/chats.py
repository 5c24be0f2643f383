"""A source of given conversations, a model to start from, and sft as a process (`python -m tests.stages.sft.chats JOB`)
for tests that start several under torchrun's environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from thinkling.data.artifact import Artifact, write_json
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import Conversation
from thinkling.data.tokenizer import train_bpe
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.sources.base import Offer, Source, bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.stage import run


class ChatsSource(Source):
    """Conversations of `rounds` rounds each, whose answers are `words` words long."""

    type: Literal["chats"] = "chats"
    rounds: int = 1
    words: tuple[int, ...] = (1,)
    """Of conversation i, the i-th, over and over."""
    silent_every: int = 0
    """In every so many conversations the assistant says nothing."""
    reject_every: int = 0
    """Every so many records are rejected by the source itself."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"conversations"})

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        for i in range(10 if n is None else n):
            if self.reject_every and i % self.reject_every == 0:
                self.ledger.reject(self.name, f"line {i}", "not JSON", "{")
                continue
            self.ledger.keep(self.name)
            silent = bool(self.silent_every) and i % self.silent_every == 0
            yield chat(f"{self.name}{i}", self.rounds, self.words[i % len(self.words)], silent)


def chat(name: str, rounds: int = 1, words: int = 1, silent: bool = False) -> Conversation:
    """Each round asks for its number and is answered with it, `words` times."""
    messages: list[dict[str, Any]] = []
    for i in range(rounds):
        answer: dict[str, Any] = {"role": "assistant", "content": " ".join([str(i)] * words), "reasoning_content": "x"}
        messages += [{"role": "user", "content": f"say {i}"}, *([] if silent else [answer])]
    return Conversation(name, messages, "chats")


def make_model(directory: Path) -> Path:
    """A tiny model with our chat template."""
    tokenizer = train_bpe(["say 0 1 2 3 " * 20], 268, chat_template=OURS.source)
    tokenizer.save(directory.with_name("tokenizer"))
    shape = ModelConfig(
        architecture="llama", vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    save_pretrained(Decoder(shape), directory, directory.with_name("tokenizer"), {})
    return directory


def make_config(**fields: Any) -> SftConfig:
    return SftConfig.model_validate(
        {
            "kind": "sft", "inputs": {"model": "start"}, "examples": {"source": "a"}, "epochs": 1,
            "sequence_length": 64, "batch_size": 2, "optimizer": {"lr": 1.0e-3}, "checkpoint_every": 2,
        }
        | fields
    )  # fmt: skip


def make_context(directory: Path, model: Path, sources: dict[str, ChatsSource], **inputs: Path) -> StageContext:
    directory.mkdir(exist_ok=True)
    given = {role: Artifact(path, {}) for role, path in {"model": model, **inputs}.items()}
    return StageContext("sft", directory, given, 1, sources=bound(sources))


def main(job: dict[str, Any]) -> None:
    sources = {name: ChatsSource.model_validate(fields) for name, fields in job["sources"].items()}
    ctx = make_context(Path(job["directory"]), Path(job["model"]), sources)
    run(SftConfig.model_validate(job["config"]), ctx)
    if os.environ["RANK"] == "0":
        write_json(Path(job["out"]), ctx.counts)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
