"""Peak memory of setting up sft on 200,000 conversations, relative to 20,000.

    python -m benchmarks.own_data.memory

Each size is set up in its own process, with half of the conversations from a user's chat file and half from the Parquet
file of an earlier stage. They are streamed, encoded and packed, and rows are read throughout the two epochs. No step is
trained, because the memory of a step depends only on its batch. The ratio compares peak resident memory, the minimum of
`--repeats` processes per size. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = (20_000, 200_000)
CHATS = "chats.jsonl"
WORDS = "the of and a to in is you that it he was for on are as with his they I at be this have from or one had by"


def conversations(first: int, n: int) -> Iterator[Any]:
    """One to three rounds of up to 40 words, some with reasoning; depends only on the number."""
    from thinkling.data.conversations import Conversation

    for i in range(first, first + n):
        rng = random.Random(i)
        messages: list[dict[str, Any]] = []
        for _ in range(rng.randint(1, 3)):
            question, answer, reasoning = (" ".join(rng.choices(WORDS.split(), k=rng.randint(5, 40))) for _ in range(3))
            messages.append({"role": "user", "content": question})
            said = {"role": "assistant", "content": answer}
            messages.append(said | ({"reasoning_content": reasoning} if i % 2 else {}))
        yield Conversation(f"c{i}", messages, "generated")


def set_up(directory: Path, n: int) -> dict[str, Any]:
    """Does what sft does before its first step, and reads rows; returns this process's peak memory in bytes."""
    from thinkling.data.artifact import Artifact
    from thinkling.generate.loaded import LoadedModel
    from thinkling.sources.base import bound
    from thinkling.sources.conversations import ConversationsSource
    from thinkling.stages.base import StageContext
    from thinkling.stages.sft.config import SftConfig
    from thinkling.stages.sft.encoding import encoded_conversations
    from thinkling.stages.sft.mixing import counts_of, rows_of
    from thinkling.stages.training.left_out import LeftOut
    from thinkling.train.parallel import setup

    config = SftConfig.model_validate(
        {
            "kind": "sft", "inputs": {"model": "start", "conversations": "refine"}, "epochs": 2,
            "examples": {"source": "chats"}, "sequence_length": 512, "batch_size": 8,
            "optimizer": {"lr": 1e-3}, "overlong": "truncate",
        }
    )  # fmt: skip
    stage = directory / "sft"
    stage.mkdir()
    inputs = {"model": Artifact(directory / "start", {}), "conversations": Artifact(directory, {})}
    chats = ConversationsSource(type="conversations", path=str(directory / CHATS))
    ctx = StageContext("sft", stage, inputs, 0, sources=bound({"chats": chats}))
    began, parallel = time.monotonic(), setup()
    loaded = LoadedModel.load(directory / "start", parallel.device, trainable=True)
    encoded = encoded_conversations(config, ctx, loaded.renderer, LeftOut(), parallel)
    rows = rows_of(config, encoded, 0)
    counts = counts_of(config, encoded, rows)
    for step in range(0, rows.steps, max(1, rows.steps // 500)):
        rows.mixed.batch(step * config.batch_size, (step + 1) * config.batch_size, loaded.tokenizer.pad_id)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert counts["conversations"] == n == counts["kept"] + counts["overlong_dropped"]
    return {"conversations": n, "rows": counts["rows"], "bytes": peak, "seconds": round(time.monotonic() - began, 1)}


def prepare(directory: Path, n: int) -> None:
    """Writes the start model, a user's chat file, and the file of the earlier stage."""
    from thinkling.data.chat_template import OURS
    from thinkling.data.conversations import write_conversations
    from thinkling.data.tokenizer import train_bpe
    from thinkling.model.config import ModelConfig
    from thinkling.model.decoder import Decoder
    from thinkling.model.huggingface import save_pretrained

    tokenizer = train_bpe([WORDS] * 20, 300, chat_template=OURS.source)
    tokenizer.save(directory / "tokenizer")
    shape = ModelConfig(
        architecture="llama", vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=512,
    )  # fmt: skip
    save_pretrained(Decoder(shape), directory / "start", directory / "tokenizer", {})
    with (directory / CHATS).open("w", encoding="utf-8") as file:
        for conversation in conversations(0, n // 2):
            file.write(json.dumps({"id": conversation.id, "messages": conversation.messages}) + "\n")
    write_conversations(directory / "conversations.parquet", conversations(n // 2, n - n // 2))


def measure(n: int) -> dict[str, Any]:
    """Measures one size, with preparation and set-up in separate processes."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("--prepare", "--set-up"):
            command = [sys.executable, "-m", "benchmarks.own_data.memory", part, folder, "--n", str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--set-up", type=Path)
    parser.add_argument("--n", type=int, default=SIZES[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar=("SMALL", "LARGE"))
    arguments = parser.parse_args()
    if arguments.prepare is not None:
        prepare(arguments.prepare, arguments.n)
        return
    if arguments.set_up is not None:
        print(json.dumps(set_up(arguments.set_up, arguments.n)))
        return
    runs = [[measure(n) for _ in range(arguments.repeats)] for n in arguments.sizes]
    small, large = (min(one["bytes"] for one in of_size) for of_size in runs)
    measurement = {"value": large / small, "n": arguments.repeats, "runs": runs, "unit": "ratio"}
    print(json.dumps({"measurements": {"own-data.memory": measurement}}))


if __name__ == "__main__":
    main()
