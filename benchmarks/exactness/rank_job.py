"""One rank of a training stage as a process, for `ranks.py`, which kills it.

The stages are tiny and real: pretrain on random documents, sft on conversations, dpd on preference pairs. A rank also
records the rows of each step that it trains on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.tensor

from thinkling.data.artifact import Artifact, finish
from thinkling.data.chat_template import OURS
from thinkling.data.packing import PackedBatch
from thinkling.data.shards import ShardWriter
from thinkling.data.tokenizer import train_bpe
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.sources.base import bound
from thinkling.sources.conversations import ConversationsSource
from thinkling.stages.base import StageContext
from thinkling.stages.dpd import stage as dpd
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain import stage as pretrain
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.sft import stage as sft
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training import plan
from thinkling.train.parallel import close

VOCAB = 268
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128,
}  # fmt: skip
COMMON: dict[str, Any] = {"optimizer": {"lr": 1.0e-3}, "checkpoint_every": 2}
STEPS = 24
CONFIGS: dict[str, dict[str, Any]] = {
    "pretrain": {
        "kind": "pretrain", "inputs": {"tokens": "tokens"}, "sequence_length": 32, "batch_tokens": 256,
        "micro_batch_size": 2, "default_max_epochs": 100,
        "phases": [
            {"name": "plateau", "tokens": 16 * 256, "learning_rate": 1.0e-3, "mixture": {"a": 2, "b": 1}},
            {"name": "decay", "tokens": 8 * 256, "learning_rate": [1.0e-3, 0], "mixture": {"b": 1}, "decay": True},
        ],
    },
    "sft": {
        "kind": "sft", "inputs": {"model": "model"}, "examples": {"source": "chats"}, "epochs": 24, "max_steps": STEPS,
        "sequence_length": 96, "batch_size": 8, "micro_batch_size": 2,
    },
    "dpd": {
        "kind": "dpd", "inputs": {"model": "model"}, "preferences": [{"source": "pairs"}], "steps": STEPS,
        "weights": {"kl_chosen": 0, "kl_rejected": 0}, "sequence_length": 96, "batch_size": 8, "micro_batch_size": 2,
    },
}  # fmt: skip
STAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[Any, StageContext], None]]] = {
    "pretrain": (PretrainConfig.model_validate, pretrain.run),
    "sft": (SftConfig.model_validate, sft.run),
    "dpd": (DpdConfig.model_validate, dpd.run),
}


def prepare(folder: Path) -> None:
    """Write what the stages read: tokens, a model, conversations and preference pairs."""
    rng = np.random.default_rng(0)
    tokenizer = train_bpe(["abc abc abd say 0 1 2 3 " * 50], VOCAB, chat_template=OURS.source)
    tokenizer.save(folder / "tokens.partial" / "tokenizer")
    for name in ("a", "b"):
        with ShardWriter(folder / "tokens.partial" / "shards", name, VOCAB) as writer:
            for _ in range(60):
                writer.add(rng.integers(0, VOCAB, rng.integers(3, 50)))
    finish(folder / "tokens.partial", folder / "tokens", {"kind": "tokens"}, {})
    model = Decoder(ModelConfig.model_validate(SHAPE | {"vocab_size": tokenizer.vocab_size}))
    model.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(model, folder / "model", folder / "tokens" / "tokenizer", {})
    chats, pairs = [], []
    for number in range(60):
        question = {"role": "user", "content": f"say {number}"}
        first, second = (
            {"role": "assistant", "content": " ".join(str(i) for i in rng.integers(0, 9, rng.integers(1, 9)))}
            for _ in range(2)
        )
        chats.append({"messages": [question, first]})
        pairs.append({"prompt": [question], "chosen": [first], "rejected": [second]})
    for name, records in (("chats", chats), ("pairs", pairs)):
        lines = (json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def context(stage: str, folder: Path, directory: Path) -> StageContext:
    """The stage's context; `folder` is the output of `prepare`."""
    files = {name: {"type": "conversations", "path": str(folder / f"{name}.jsonl")} for name in ("chats", "pairs")}
    sources = bound({name: ConversationsSource.model_validate(fields) for name, fields in files.items()})
    tokens = Artifact(folder / "tokens", json.loads((folder / "tokens" / "manifest.json").read_text()))
    model = Artifact(folder / "model", {"digest": "model"})
    return StageContext(
        name=stage,
        directory=directory,
        inputs={"tokens": tokens} if stage == "pretrain" else {"model": model},
        seed=5,
        model=ModelConfig.model_validate(SHAPE) if stage == "pretrain" else None,
        sources=sources,
    )


def rows_of(batch: Any) -> Iterator[bytes]:
    """What each row or, for preference pairs, each sequence of a micro-batch contains, whatever surrounds it."""
    if isinstance(batch, PackedBatch):
        for tokens, labels, lengths in zip(batch.tokens_BT, batch.labels_BT, batch.lengths, strict=True):
            yield tokens.tobytes() + labels.tobytes() + bytes(str(lengths), "ascii")
        return
    for number in range(2 * batch.n_pairs):
        there = batch.sequences_BT == number
        yield batch.packed.tokens_BT[there].tobytes() + batch.packed.labels_BT[there].tobytes()


def record(path: Path) -> None:
    """Write the digests of the rows of each step to a file before the step."""
    fit = plan.fit

    def recording(trainer: Any, batches: Callable[[int], Sequence[Any] | None], *rest: Any) -> int:
        def noted(step: int) -> Sequence[Any] | None:
            found = batches(step)
            rows = [hashlib.sha256(row).hexdigest()[:16] for batch in found or () for row in rows_of(batch)]
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "rows": rows}) + "\n")
            return found

        return fit(trainer, noted, *rest)

    plan.fit = recording


def run(stage: str, folder: Path, directory: Path, place: dict[str, str], fields: dict[str, Any]) -> None:
    """Train as the rank that torchrun's variables in `place` describe, in a process of its own."""
    log = os.open(directory.with_name(directory.name + ".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(place)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    order = directory.with_name(directory.name + "-order")
    order.mkdir(exist_ok=True)
    record(order / f"{place['WORLD_SIZE']}-{place['RANK']}.jsonl")
    validate, train = STAGES[stage]
    train(validate(CONFIGS[stage] | COMMON | fields), context(stage, folder, directory))
    close()
