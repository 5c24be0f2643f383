"""Checks from strangers' reports about files, texts, recipes, served replies and checkpoints.

Each check is a generator of (name, whether it passes). Checks of models and chats are in chat_checks.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from thinkling.data.decontaminate import HeldOut
from thinkling.data.near_dedup import NearDuplicates, clusters
from thinkling.data.readers import RawRecord, read_jsonl, read_parquet
from thinkling.errors import UserError
from thinkling.generate.served_reply import read_answer
from thinkling.train.checkpoint import Checkpoints

Check = Callable[[Path], Iterator[tuple[str, bool]]]
LINES = b'{"text": "first document"}\n{"text": "second document"}\n'
RECIPE = """name: small
sources:
  docs: {type: jsonl, paths: [a.jsonl]}
stages:
"""
STAGE = "  %s:\n    kind: curate\n    sources: [docs]\n    quality: {docs: %s}\n"


def texts(records: Callable[[], Iterator[RawRecord]], refused: str = "") -> bool:
    """Whether both texts are read, or the file is refused with an error that contains `refused`."""
    try:
        return [record.fields.get("text") for record in records()] == ["first document", "second document"]
    except UserError as error:
        return bool(refused) and refused in str(error)


def files(folder: Path) -> Iterator[tuple[str, bool]]:
    """huggingface/datasets#8241, apache/datafusion#10435, apache/arrow#41266."""
    marked = folder / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + LINES)
    yield "a byte-order mark", texts(lambda: read_jsonl(marked))
    packed = folder / "packed.jsonl.zst"
    packed.write_bytes(pa.Codec("zstd").compress(LINES, asbytes=True))
    yield "zstandard", texts(lambda: read_jsonl(packed), "zst")
    columns = {"text": ["first document", "second document"]}
    times = pa.array([1718409612868214001, 1], pa.timestamp("ns"))
    pq.write_table(pa.table(columns | {"crawled": times}), folder / "times.parquet")
    yield "nanoseconds beside the text", texts(lambda: read_parquet(folder / "times.parquet"))
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"a"]).buffers())
    pq.write_table(pa.table(columns | {"url": broken}), folder / "url.parquet")
    yield "bad UTF-8 beside the text", texts(lambda: read_parquet(folder / "url.parquet"))


JAPANESE = "今日の午前、町の図書館が再び開館し、読者は新しい本を借りたり、閲覧室で静かに新聞を読んだりできる。"
CHINESE = (
    "小明家离学校有三千六百米，他每天早上骑自行车上学，平均每分钟行驶二百四十米。"
    "一天他出发五分钟以后想起忘带作业本，立刻以同样的速度返回家中取作业，再骑车去学校。"
)


def unspaced(folder: Path) -> Iterator[tuple[str, bool]]:
    """EleutherAI/dps#62, and the table of texts without spaces."""
    del folder
    text = JAPANESE * 12
    yield "near duplicates in Japanese", clusters([text, text.replace("静か", "自由", 1)], NearDuplicates()) == [0, 0]
    text = CHINESE * 8
    yield (
        "near duplicates in Chinese",
        clusters([text, text.replace("自行车", "摩托车", 1)], NearDuplicates()) == [0, 0],
    )
    found = HeldOut([CHINESE]).find(f"昨天我在网上看到一道题目。{CHINESE[6:56]}……后面的我忘了。")
    yield "a held-out Chinese problem quoted in part", found is not None and found.how == "ngram"


def recipes(folder: Path) -> Iterator[tuple[str, bool]]:
    """snowflakedb/ArcticTraining#85, ai-dynamo/aiperf#1080."""
    work = folder / "work"
    work.mkdir()
    (work / "a.jsonl").write_text(
        '{"text": "first document of the two"}\n{"text": "second document of the two"}\n', encoding="utf-8"
    )

    def refused(name: str, stages: str, named: str) -> bool:
        (work / f"{name}.yaml").write_text(RECIPE + stages, encoding="utf-8")
        command = [sys.executable, "-m", "thinkling", "run", f"{name}.yaml", "--runs", "runs"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=work)
        written = {path.name for path in folder.iterdir()} | {path.name for path in work.glob("outside-*")}
        one_line = done.stderr.strip().count("\n") == 0 and "Traceback" not in done.stderr
        return done.returncode == 2 and named in done.stderr and one_line and written == {"work"}

    yield "a stage named twice", refused("twice", STAGE % ("curate", "hq") + STAGE % ("curate", "mq"), "curate")
    yield "a stage named as a path outside", refused("outside", STAGE % ("../../outside", "hq"), "outside")
    yield "a stage named as a path", refused("slash", STAGE % ("a/b", "hq"), "a/b")


def replies(folder: Path) -> Iterator[tuple[str, bool]]:
    """microsoft/agent-framework#6978, mistralai/client-python#252."""
    del folder
    written = {"type": "text", "text": "four"}
    for name, content, expected in (
        ("content in parts", [written], ("four", "")),
        (
            "reasoning among the parts",
            [{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, written],
            ("four", "2+2"),
        ),
    ):
        reply = read_answer({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
        yield name, (reply.text, reply.reasoning) == expected


def checkpoints(folder: Path) -> Iterator[tuple[str, bool]]:
    """huggingface/transformers#35782, vllm-project/speculators#739."""

    def cut(path: Path) -> None:
        for file in path.glob("*.safetensors"):
            os.truncate(file, file.stat().st_size // 2)

    def without_list(path: Path) -> None:
        for file in path.glob("*.json"):
            file.unlink()

    damages: dict[str, Callable[[Path], Any]] = {
        "a checkpoint cut in half": cut,
        "a checkpoint without its list of files": without_list,
    }
    for number, (name, damage) in enumerate(damages.items()):
        kept = Checkpoints(folder / str(number), 1)
        tensors = {"w": torch.arange(1000.0)}
        for step in (1, 2):
            kept.save(step, {"w": tensors["w"] * step})
        damage(folder / str(number) / "step-00000002")
        try:
            found = kept.latest()
            step = 0 if found is None else kept.load(found, tensors)
            yield name, step == 1 and torch.equal(tensors["w"], torch.arange(1000.0))
        except UserError:
            yield name, True


CHECKS: tuple[Check, ...] = (files, unspaced, recipes, replies, checkpoints)
