"""The tokenize stage against datatrove's tokenizer pipeline: the same documents, tokenizer and number of processes.

    THINKLING_DATA=... python -m benchmarks.speed.tokenize_speed

Needs the package datatrove with its extras io and processing. The documents are those of $THINKLING_DATA/corpus,
repeated (with different first lines, so that no text is the same) and in random order. Both read them from Parquet, use
all CPUs and write tokens and an index. Ours runs the whole stage with an existing tokenizer (survey of all documents,
validation split, checksums, points to resume from), in the order of the documents. datatrove runs `ParquetReader` and
`DocumentTokenizer` with `LocalPipelineExecutor`, one Parquet file per process, without its shuffle. Both start new
processes. In each pair, the two run one after the other, alternating in order.

tokenize.speed: geometric mean of the paired ratios of speed, with its 95% t-interval over pairs. Both must write the
same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks.paired import geometric_mean
from benchmarks.speed.real_documents import documents
from thinkling.data.documents import write_documents
from thinkling.data.tokenizer import END_OF_TEXT, train_bpe

VOCABULARY = 32_000
OURS = """
import sys
from pathlib import Path
from thinkling.data.artifact import Artifact
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize import stage
from thinkling.stages.tokenize.config import TokenizeConfig
work = Path(sys.argv[1])
(work / "ours").mkdir()
ctx = StageContext("tokenize", work / "ours", {"documents": Artifact(work, {})}, seed=0)
ctx.tokenizer = TokenizerConfig(path=work / "tokenizer")
stage.run(TokenizeConfig(kind="tokenize", validation_fraction=0.01), ctx)
print(sum(s["tokens"] + s["validation_tokens"] for s in ctx.counts["sources"].values()))
"""
THEIRS = """
import sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
if __name__ == "__main__":
    work, n = Path(sys.argv[1]), int(sys.argv[2])
    tokenizer, end = str(work / "tokenizer/tokenizer.json"), sys.argv[3]
    steps = [
        ParquetReader(str(work / "parts"), text_key="text", id_key="id"),
        DocumentTokenizer(str(work / "theirs"), tokenizer, eos_token=end, shuffle_documents=False),
    ]
    LocalPipelineExecutor(steps, tasks=n, workers=n, logging_dir=str(work / "logs")).run()
    print(sum(int((path).read_text().split("\\n")[1]) for path in (work / "theirs").glob("*.metadata")))
"""


def prepare(work: Path, copies: int, n_processes: int) -> int:
    """Writes documents (one file for us, one per process for datatrove) and the tokenizer. Returns the size of the text
    in bytes."""
    texts = [(name, text) for name, part in documents().items() for text in part]
    train_bpe((text for _, text in texts), VOCABULARY).save(work / "tokenizer")
    # Ours writes special tokens in external text as plain characters, which datatrove cannot do; neither meets any.
    texts = [(name, text) for name, text in texts if "<|" not in text and "think>" not in text and "tool_" not in text]
    rows = [
        {"id": f"{name}/{copy}/{i}", "text": f"{copy} {i}\n{text}", "source": name, "quality": "hq", "markup": False}
        for copy in range(copies)
        for i, (name, text) in enumerate(texts)
    ]
    random.Random(0).shuffle(rows)
    write_documents(work / "documents.parquet", rows)
    (work / "parts").mkdir()
    table = pq.read_table(work / "documents.parquet")
    for part in range(n_processes):
        size = -(-len(table) // n_processes)
        pq.write_table(table.slice(part * size, size), work / "parts" / f"{part}.parquet", row_group_size=1024)
    return sum(len(row["text"].encode()) for row in rows)


class Run(NamedTuple):
    """One run of one side."""

    seconds: float
    """Wall time."""
    tokens: int


def run(script: str, *arguments: str) -> Run:
    """Runs a script, which prints the number of tokens, in a new process."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(script)
        file.flush()
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, file.name, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return Run(time.perf_counter() - began, int(done.stdout.split()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--copies", type=int, default=16)
    options = parser.parse_args()
    n_processes = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        n_bytes = prepare(work, options.copies, n_processes)
        sides: dict[str, Callable[[], Run]] = {
            "ours": lambda: run(OURS, str(work)),
            "theirs": lambda: run(THEIRS, str(work), str(n_processes), END_OF_TEXT),
        }
        pairs: list[dict[str, float]] = []
        n_tokens = 0
        for number in range(options.pairs):
            found: dict[str, Run] = {}
            for side in sorted(sides, reverse=bool(number % 2)):
                for name in ("ours", "theirs", "logs"):
                    shutil.rmtree(work / name, ignore_errors=True)
                found[side] = sides[side]()
            ours, theirs = found["ours"], found["theirs"]
            if ours.tokens != theirs.tokens:
                raise RuntimeError(f"{ours.tokens} tokens, but datatrove wrote {theirs.tokens}")
            n_tokens = ours.tokens
            pairs.append(
                {
                    "ours_seconds": round(ours.seconds, 2),
                    "theirs_seconds": round(theirs.seconds, 2),
                    "ratio": theirs.seconds / ours.seconds,
                }
            )
            print(json.dumps(pairs[-1]), flush=True)
    measurement = {
        **geometric_mean([pair["ratio"] for pair in pairs]),
        "n": len(pairs),
        "unit": "ratio",
        "runs": pairs,
        "text_megabytes": round(n_bytes / 1e6, 1),
        "tokens": n_tokens,
        "processes": n_processes,
    }
    print(json.dumps({"measurements": {"tokenize.speed": measurement}}))


if __name__ == "__main__":
    main()
