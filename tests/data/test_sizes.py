"""Sizes that are estimated from the first records of files."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkling.data import sizes
from thinkling.data.readers import read_jsonl, read_parquet
from thinkling.pipeline.recipe import read_source
from thinkling.sources.base import Source, bound


def records(n: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [{"id": i, "text": "é" + "word " * rng.randint(1, 200), "url": "u" * 40} for i in range(n)]


def text_bytes(given: list[dict[str, Any]]) -> int:
    return sum(len(record["text"].encode()) for record in given)


def lines(given: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in given)


@pytest.mark.parametrize("n", [1, 50, 3000])
def test_text_of_jsonl_is_told_from_its_first_records(tmp_path: Path, n: int) -> None:
    given = records(n)
    (tmp_path / "a.jsonl").write_text(lines(given), encoding="utf-8")
    content, number = sizes.estimate([tmp_path / "a.jsonl"], read_jsonl, "text")
    assert content == pytest.approx(text_bytes(given), rel=0.15)
    assert number == pytest.approx(n, rel=0.15)


def test_parquet_states_its_number_of_records(tmp_path: Path) -> None:
    given = records(1000)
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "a.parquet")
    content, number = sizes.estimate([tmp_path / "a.parquet"], read_parquet, "text")
    assert number == 1000
    assert content == pytest.approx(text_bytes(given), rel=0.15)


def test_a_compressed_file_is_not_taken_for_its_size_on_the_disk(tmp_path: Path) -> None:
    given = records(3000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(given).encode()))
    content, _ = sizes.estimate([tmp_path / "a.jsonl.gz"], read_jsonl, "text")
    assert content > 4 * (tmp_path / "a.jsonl.gz").stat().st_size * text_bytes(given) / len(lines(given).encode())


def test_of_many_files_some_are_read(tmp_path: Path) -> None:
    paths, read = [], list[Path]()
    for i in range(40):
        paths.append(tmp_path / f"{i}.jsonl")
        paths[-1].write_text(lines(records(20)), encoding="utf-8")

    def reading(path: Path) -> Any:
        read.append(path)
        return read_jsonl(path)

    content, number = sizes.estimate(paths, reading, "text")
    assert len(read) == 8
    assert content == pytest.approx(40 * text_bytes(records(20)), rel=0.05)
    assert number == pytest.approx(800, rel=0.05)


def test_no_records_have_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert sizes.estimate([tmp_path / "a.jsonl"], read_jsonl, "text") == (0.0, 0.0)


def source(name: str, fields: dict[str, Any], **others: dict[str, Any]) -> Source:
    return bound({key: read_source(key, value) for key, value in {name: fields, **others}.items()})[name]


def test_some_of_the_conversations_have_their_share(tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": "hi " * 20}, {"role": "assistant", "content": "yes"}]}] * 500
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    made = source("chats", {"type": "conversations", "path": str(tmp_path / "c.jsonl")})
    whole, part = made.estimated_size("conversations"), made.estimated_size("conversations", n=50)
    assert whole is not None
    assert part is not None
    assert whole.records == pytest.approx(500, rel=0.1)
    assert whole.bytes == pytest.approx((tmp_path / "c.jsonl").stat().st_size, rel=0.1)
    assert part.records == 50
    assert part.bytes == pytest.approx(whole.bytes / 10, rel=0.1)


@pytest.mark.parametrize("part", ["code", "docstrings", "topics"])
def test_the_standard_librarys_text_is_at_most_the_estimate_and_at_least_half(part: str) -> None:
    made = source("library", {"type": "python_stdlib", "part": part})
    size = made.estimated_size("documents")
    (stream,) = made.documents("mq", 0)
    texts = [str(record.fields.get("text", "")) for piece in stream.pieces for record in piece]
    actual = sum(len(text.encode()) for text in texts)
    assert size is not None
    assert size.records == stream.n_records
    assert actual <= size.bytes <= 2 * actual
    assert size.records == pytest.approx(len(texts), rel=0.5)


def test_puzzles_and_their_pages_are_told_from_a_few(tmp_path: Path) -> None:
    puzzles = {"type": "puzzles", "families": {"sum": {}, "calc": {}}, "heldout_per_family": 40}
    pages = {"type": "puzzle_pages", "puzzles": "puzzles", "pages_per_family": 200}
    made = source("pages", pages, puzzles=puzzles)
    actual = [str(r.fields["text"]) for s in made.documents("mq", 0) for piece in s.pieces for r in piece]
    size = made.estimated_size("documents")
    assert size is not None
    assert size.records == len(actual) == 400
    assert sum(map(len, actual)) / 1.2 < size.bytes < 2 * sum(map(len, actual))
    heldout = made.other("puzzles").estimated_size("problems", "heldout")
    problems = made.other("puzzles").problems("heldout")
    assert heldout is not None
    assert heldout.records == len(problems) == 80
    assert heldout.bytes == pytest.approx(sum(len(p.question + p.answer) for p in problems), rel=0.5)
