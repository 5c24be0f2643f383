"""Published chat files without a mapping: records kept, records rejected and why, and training on them.

own-data.strangers: fraction of the records of $THINKLING_DATA/chats that are kept or rejected with a reason. Prints the
counts of each file, and the outcome of 20 records drawn with seed 0 (rejected ones first) by file and line, without
their text. Then a tiny model is trained with sft on the conversations and dpd on the pairs. If a stage does not finish
or its loss does not fall, the script ends without a measurement. Last line: JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.own_data.chats import source
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import Conversation, PreferencePair
from thinkling.data.ledger import Ledger
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained

SHOWN, VOCABULARY, STEPS, LENGTH = 20, 1024, 40, 1024
LAST = 5
"""Steps at each end whose mean losses are compared."""
TOKENIZER_TEXTS = 400


def records_in(path: Path) -> int:
    """Number of records in a file, counted without our reader."""
    text = path.read_text(encoding="utf-8")
    return len(json.loads(text)) if path.suffix == ".json" else sum(bool(line.strip()) for line in text.split("\n"))


def read(path: Path, ledger: Ledger) -> list[Conversation | PreferencePair]:
    """The conversations or pairs of a file."""
    made = source(path, ledger)
    is_pairs = "preference" in made.forms().values()
    print(f"{path.name}: {made.summary()}")
    return list(made.pairs(None, 0)) if is_pairs else list(made.conversations(None, 0))


def outcome(item: Conversation | PreferencePair) -> str:
    """Description of what was read from a record, without its text."""
    if isinstance(item, PreferencePair):
        return f"kept: {_shape(item.messages)} | {_shape(item.chosen)} over {_shape(item.rejected)}"
    return f"kept: {_shape(item.messages)}" + (f", {len(item.tools)} tools" if item.tools else "")


def _shape(messages: Any) -> str:
    words = []
    for message in messages:
        extra = [name for name in ("reasoning_content", "tool_calls", "tool_call_id") if name in message]
        extra += ["not trained on"] * (message.get("loss") is False)
        words.append(f"{message['role']} {len(message['content'])}" + "".join(f" +{name}" for name in extra))
    return ", ".join(words)


def shown(rejected: Path, kept: dict[str, list[Any]]) -> Iterator[str]:
    """Lines about 20 records drawn with seed 0, rejected ones first, then kept ones."""
    lines = rejected.read_text(encoding="utf-8").split("\n")[:-1] if rejected.exists() else []
    turned_away = [json.loads(line) for line in lines]
    rng = random.Random(0)
    drawn = rng.sample(turned_away, min(SHOWN, len(turned_away)))
    for record in drawn:
        yield f"{Path(record['where']).name}: rejected: {record['reason']} ({record['detail']})"
    sound = [(name, number) for name, items in kept.items() for number in range(len(items))]
    for name, number in sorted(rng.sample(sound, min(len(sound), SHOWN - len(drawn)))):
        yield f"{name}, kept record {number + 1}: {outcome(kept[name][number])}"


def save_model(directory: Path, texts: list[str]) -> None:
    """A Llama of some 100,000 parameters with a tokenizer fitted to the texts and our template."""
    tokenizer = train_bpe(texts, VOCABULARY, chat_template=OURS.source)
    tokenizer.save(directory.parent / "tokenizer")
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    model = Decoder(shape)
    model.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(model, directory, directory.parent / "tokenizer", {})


def recipe(folder: Path, model: Path) -> dict[str, Any]:
    """The recipe that a user would write: sft on the conversation files, dpd on the file of pairs."""
    chats = ["alpaca_en_demo.json", "glaive_toolcall_en_demo.json", "v1_sft_demo.jsonl"]
    training = {
        "sequence_length": LENGTH,
        "batch_size": 4,
        "warmup_steps": 5,
        "decay_fraction": 0.2,
        "optimizer": {"name": "adamw", "lr": 3e-3},
    }
    return {
        "name": "strangers",
        "seed": 0,
        "threads": 1,
        "sources": {
            "start": {"type": "model", "path": str(model)},
            "chats": {"type": "conversations", "paths": [str(folder / name) for name in chats]},
            "pairs": {"type": "conversations", "path": str(folder / "dpo_en_demo.json")},
        },
        "stages": {
            "sft": {
                "kind": "sft",
                "inputs": {"model": "start"},
                "examples": {"source": "chats"},
                "epochs": 1,
                "max_steps": STEPS,
                **training,
            },
            "dpd": {
                "kind": "dpd",
                "inputs": {"model": "sft"},
                "preferences": [{"source": "pairs"}],
                "weights": {"kl_chosen": 0, "kl_rejected": 0},
                "steps": STEPS,
                **training,
            },
        },
    }


def train(folder: Path, work: Path, kept: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Runs the recipe; returns stage → counts by source, and mean loss of the first and last steps.

    Raises UserError if the run fails or a loss does not fall.
    """
    chats = [item for items in kept.values() for item in items[:TOKENIZER_TEXTS]]
    save_model(work / "start", [message["content"] for item in chats for message in item.messages])
    path = work / "strangers.yaml"
    path.write_text(
        yaml.safe_dump(recipe(folder, work / "start"), allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    command = [sys.executable, "-m", "thinkling", "run", str(path), "--runs", str(work / "runs")]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise UserError(f"{path.name}: the run failed")
    results: dict[str, dict[str, Any]] = {}
    for stage in ("sft", "dpd"):
        (directory,) = (work / "runs" / "strangers").glob(f"{stage}-????????")
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in rows]
        first, last = (sum(part) / LAST for part in (losses[:LAST], losses[-LAST:]))
        manifest = json.loads((directory / "manifest.json").read_text())
        results[stage] = {"first": first, "last": last, "sources": manifest["counts"]["sources"]}
        print(f"{stage}: {len(losses)} steps, loss {first:.3f} → {last:.3f}, {results[stage]['sources']}", flush=True)
        if not last < first:
            raise UserError(f"{stage}: the loss does not fall")
    return results


def main() -> None:
    root = os.environ.get("THINKLING_DATA")
    if root is None:
        raise UserError("THINKLING_DATA is not set; set it to the folder of real data")
    folder = Path(root) / "chats"
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ledger = Ledger(work / "rejected.jsonl")
        kept, accounted, total, fractions = {}, 0, 0, []
        for path in files:
            before = ledger.counts().get("chats", {"in": 0})["in"]
            kept[path.name] = read(path, ledger)
            seen, there = ledger.counts()["chats"]["in"] - before, records_in(path)
            print(f"{path.name}: {there} records, {len(kept[path.name])} kept, {seen - len(kept[path.name])} rejected")
            accounted, total = accounted + min(seen, there) - max(seen - there, 0), total + there
            fractions.append(seen / there)
        for line in shown(work / "rejected.jsonl", kept):
            print(line)
        trained = train(folder, work, kept)
    measurement = {
        "value": accounted / total,
        "n": total,
        "runs": fractions,
        "unit": "fraction",
        "rejected": ledger.counts()["chats"]["rejected"],
        "losses": {stage: [result["first"], result["last"]] for stage, result in trained.items()},
    }
    print(json.dumps({"measurements": {"own-data.strangers": measurement}}))


if __name__ == "__main__":
    main()
