"""Readers: a bad record is passed on with its error, an unreadable file stops the run by name."""

from __future__ import annotations

import bz2
import contextlib
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

from thinkling.data.arrow_values import Unreadable
from thinkling.data.documents import Counts, RejectedWriter, admit
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
    # Another encoding or a compression, of which the rest may be none.
    if content.startswith(
        (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7z", b"BZh")
    ):
        with contextlib.suppress(UserError):
            list(read_jsonl(path))
        return
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
    assert [record.error for record in records] == ["", "", ""]
    assert records[0].fields == {"text": "one", "n": 1}
    assert records[1].fields == {"text": Unreadable("not UTF-8"), "n": 2}
    assert records[2].fields == {"text": "three", "n": 3}
    assert [record.origin.rsplit(":", 1)[1] for record in records] == ["1", "2", "3"]


def test_a_column_whose_name_is_not_utf8_was_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": [[{"role": "user"}]]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"role", b"r\xbale"))
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read"):
        list(read_parquet(path))


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    lines, text = '{"text": "hé𝄞"}\r\n{"text": "b"}\n' * 5000, "naïve 𝄞\r\nline"
    (tmp_path / "a.jsonl").write_bytes(lines.encode(encoding))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode(encoding)))
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert [record.fields["text"] for record in read_jsonl(tmp_path / name)] == ["hé𝄞", "b"] * 5000
    assert next(read_text_files([tmp_path / "a.txt"])).fields["text"] == text


def test_bytes_that_are_not_the_encoding_of_their_mark_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "b"}'.encode("utf-16") + b"x")
    with pytest.raises(UserError, match=r"a\.jsonl: the first bytes indicate UTF-16"):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_a_compressed_file_without_the_ending_is_unpacked_and_unknown_compressions_are_named(tmp_path: Path) -> None:
    lines = b'{"text": "x"}\n'
    for name, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (tmp_path / f"{name}.jsonl").write_bytes(pack(lines))
        assert [record.fields for record in read_jsonl(tmp_path / f"{name}.jsonl")] == [{"text": "x"}]
        (tmp_path / f"a.txt.{name}").write_bytes(pack(b"x"))
        assert next(read_text_files([tmp_path / f"a.txt.{name}"])).fields["text"] == "x"
    (tmp_path / "a.jsonl.lz4").write_bytes(lines)
    with pytest.raises(UserError, match=r"a\.jsonl\.lz4: \.lz4 files are not supported"):
        list(read_jsonl(tmp_path / "a.jsonl.lz4"))


def test_several_frames_of_zstandard_are_all_read(tmp_path: Path) -> None:
    frame = pa.Codec("zstd").compress(b'{"a": 1}\n', asbytes=True)
    (tmp_path / "a.jsonl.zst").write_bytes(frame * 3)
    assert len(list(read_jsonl(tmp_path / "a.jsonl.zst"))) == 3


def test_of_two_values_under_one_key_none_is_taken_silently(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1, "a": 2}\n{"a": {"b": 1, "b": 1}}\n{"a": NaN}\n')
    errors = [record.error for record in read_jsonl(tmp_path / "a.jsonl")]
    assert errors == ["a key twice in one JSON object"] * 2 + [""]


BESIDE = {
    "nanoseconds": pa.array([1718409612868214001, 1], pa.timestamp("ns")),
    "far dates": pa.array([3_000_000, 1], pa.date32()),
    "far seconds": pa.array([2**40, 1], pa.timestamp("s")),
    "durations": pa.array([2**62, 1], pa.duration("s")),
    "a zone that is not there": pa.array([1, 2], pa.timestamp("us", tz="Mars/Base")),
    "nested": pa.array([[{"t": 1718409612868214001}], []], pa.list_(pa.struct([("t", pa.timestamp("ns"))]))),
    "bytes": pa.array([b"\xff", b"a"]),
    "bad text": pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"a"]).buffers()),
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_a_value_that_python_cannot_have_does_not_cost_the_text_beside_it(tmp_path: Path, beside: pa.Array) -> None:
    pq.write_table(pa.table({"x": beside, "text": ["first", "second"]}), tmp_path / "a.parquet")
    for columns, fields in ((None, {"x", "text"}), ({"text", "id"}, {"text"}), ({"id"}, set())):
        records = list(read_parquet(tmp_path / "a.parquet", columns=columns))
        assert [set(record.fields) for record in records] == [fields] * 2
        assert "text" not in fields or [record.fields["text"] for record in records] == ["first", "second"]


@pytest.mark.parametrize(
    "type_",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.large_string()],
)
def test_text_stored_as_bytes_is_decoded_and_what_is_no_text_is_quarantined(tmp_path: Path, type_: pa.DataType) -> None:
    values = ["é", "x"] if pa.types.is_large_string(type_) else ["é".encode(), b"\xff", b"x"]
    batch = pa.RecordBatch.from_arrays([pa.array(values).cast(type_)], names=["text"])
    counts = Counts("admit")
    with RejectedWriter(tmp_path / "rejected.parquet") as rejected:
        records = batch_records([batch], tmp_path / "a.parquet")
        kept = list(admit(records, source="s", quality="hq", counts=counts, rejected=rejected))
    assert [document["text"] for document in kept] == ["é", "x"]
    assert counts.as_dict()["rejected"] == ({"not UTF-8": 1} if len(values) == 3 else {})


def test_real_files(real_data: Path) -> None:
    records = list(read_jsonl(real_data / "gsm8k" / "train.jsonl"))
    assert len(records) == 7473
    assert not any(record.error for record in records)
    assert len(list(read_jsonl(real_data / "arena_hard_v2" / "question.jsonl"))) == 750
