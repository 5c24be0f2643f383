"""Readers: a bad record is passed on with its error, an unreadable file stops the run by name."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.readers import TOO_LONG, batch_records, read_jsonl, read_parquet, read_text_files
from thinkling.errors import UserError


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("naïve\r\nline".encode())
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    good, bad = read_text_files([tmp_path / "a.txt", str(tmp_path / "b.txt")])
    assert good.fields == {"id": str(tmp_path / "a.txt"), "text": "naïve\r\nline"}
    assert (bad.error, bad.raw, bad.origin) == ("not UTF-8", "caf\ufffd", str(tmp_path / "b.txt"))


def test_jsonl_is_split_on_newline_only(tmp_path: Path) -> None:
    lines = [{"text": "a\u2028b\u0085c"}, {"text": "d\re"}]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "a.jsonl").write_bytes(content.encode())
    assert [record.fields for record in read_jsonl(tmp_path / "a.jsonl")] == lines
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    assert [record.fields for record in read_jsonl(tmp_path / "a.jsonl.gz")] == lines


def test_a_bad_line_is_a_bad_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "ok"}\n\n{"text": \n[1]\n' + b"[" * 100_000 + b'\n{"text": "\xff"}\r\n{"text": "end"}\n'
    )
    records = list(read_jsonl(path))
    assert [record.error for record in records] == ["", "not JSON", "not a JSON object", "not JSON", "not UTF-8", ""]
    assert [record.origin for record in records] == [f"{path}:{n}" for n in (1, 3, 4, 5, 6, 7)]
    assert records[1].raw == '{"text": \n'


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80) | st.text(alphabet='{}[]":, \n\\1tex', max_size=60).map(str.encode))
def test_no_bytes_abort_the_reading_of_lines(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(content)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(list(read_jsonl(path))) == sum(bool(line.strip()) for line in lines)


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert [record.fields for record in read_jsonl(tmp_path / "a.jsonl")] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("long", [20, 21, 22, 500_000])
def test_a_line_over_the_limit_is_passed_on_as_an_error(tmp_path: Path, long: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "' + b"x" * (long - 9) + b'"}\n{"a": 2}\n{"a": "' + b"x" * (long - 9) + b'"}')
    records = list(read_jsonl(path, limit=20))
    expected = TOO_LONG if long > 20 else ""
    assert [record.error for record in records] == ["", expected, "", expected]
    assert [record.origin for record in records] == [f"{path}:{n}" for n in (1, 2, 3, 4)]


def test_a_row_over_the_limit_is_passed_on_as_an_error(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pylist([{"a": "x"}, {"a": "x" * 500}, {"a": "y"}])
    records = list(batch_records([batch], tmp_path / "a.parquet", limit=100))
    assert [record.error for record in records] == ["", TOO_LONG, ""]


def test_parquet_rows_and_a_string_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"caf\xe9", b"three"]).view(pa.string())
    pq.write_table(pa.table({"text": raw, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    records = list(read_parquet(tmp_path / "a.parquet", rows_per_batch=2))
    assert [record.error for record in records] == ["", "not UTF-8", ""]
    assert records[0].fields == {"text": "one", "n": 1}
    assert records[2].fields == {"text": "three", "n": 3}
    assert [record.origin.rsplit(":", 1)[1] for record in records] == ["1", "2", "3"]


@pytest.mark.parametrize("read", [read_jsonl, read_parquet, lambda path: read_text_files([path])])
def test_unreadable_files_are_named(tmp_path: Path, read: Callable) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(UserError, match=f"{path.name}: cannot be read"):
            list(read(path))


def test_every_compression_is_unpacked(tmp_path: Path) -> None:
    lines = b'{"text": "x"}\n' * 1000
    for name, pack in (("bz2", bz2.compress), ("xz", lzma.compress)):
        (tmp_path / f"a.jsonl.{name}").write_bytes(pack(lines))
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write(lines)
    for name in ("bz2", "xz", "zst"):
        path = tmp_path / f"a.jsonl.{name}"
        assert len(list(read_jsonl(path))) == 1000
        path.write_bytes(path.read_bytes()[:-6])
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            list(read_jsonl(path))


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "x"}\n' * 1000)
    for name, content in (("cut", whole[:-20]), ("bad", whole[:20] + b"\0" * 20), ("plain", b'{"text": "x"}\n')):
        (tmp_path / f"{name}.gz").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.gz: cannot be read"):
            list(read_jsonl(tmp_path / f"{name}.gz"))


def test_real_files(real_data: Path) -> None:
    records = list(read_jsonl(real_data / "gsm8k" / "train.jsonl"))
    assert len(records) == 7473
    assert not any(record.error for record in records)
    assert len(list(read_jsonl(real_data / "arena_hard_v2" / "question.jsonl"))) == 750
