"""JSON files record by record: any form of file, bad records on their own, memory for one record."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data import json_files
from thinkling.data.json_files import read_json
from thinkling.data.readers import TOO_LONG
from thinkling.errors import UserError


@pytest.fixture(params=[2, 3, 7, 1 << 20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_CHUNK", request.param)


def read(tmp_path: Path, text: str | bytes, **options: Any) -> list[tuple[Any, str]]:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(record.fields, record.error) for record in read_json(path, **options)]


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[]", []),
        ("", []),
        (" \n", []),
        ('[{"a": 1}, {"b": [{"c": "]}\\"\\\\"}]}]', [{"a": 1}, {"b": [{"c": ']}"\\'}]}]),
        ('\ufeff[\n {"a\\\\": "{"},\n {"é": "\u2028"}\n]\n', [{"a\\": "{"}, {"é": "\u2028"}]),
        ('{"a": 1}\n\n{"a": {"b": 2}}\n', [{"a": 1}, {"a": {"b": 2}}]),
        ('\ufeff{"a": 1}\r\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('{\n "a": 1\n}\n{\n "a": [2]\n}\n', [{"a": 1}, {"a": [2]}]),
        ('{\n "problem": "x",\n "n": [1]\n}', [{"problem": "x", "n": [1]}]),
        ('{"v": "da\\"ta", "n": [0], "data": [{"a": 1}, {"a": 2}], "w": {}}', [{"a": 1}, {"a": 2}]),
        ('{"data": []}', []),
        ('{"messages": [{"role": "user"}]}', [{"messages": [{"role": "user"}]}]),
    ],
)
def test_every_form_of_file(tmp_path: Path, text: str, fields: list[Any]) -> None:
    assert read(tmp_path, text) == [(one, "") for one in fields]


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ('[{"a": 1}, {"a": nope}, {"a": 2}]', ["", "not JSON", ""]),
        ('[1, {"a": 1}, [2], null,]', ["not a JSON object", "", "not a JSON object", "not a JSON object"]),
        (b'[{"a": "\xff"}, {"a": 1}]', ["not UTF-8", ""]),
        ('[{"a": 1}, {"a": 2', ["", "not JSON"]),
        ('[{"a": 1}, {"a": "2\\', ["", "not JSON"]),
        ('[{"a": 1}]\n[{"a": 2}]', ["", "text after the list"]),
        ('[{"a": 1},, {"a": 2}]', ["", "not JSON", ""]),
        ('{"a": 1}\n{"a": \n{"a": 2}\n', ["", "not JSON", ""]),
    ],
)
def test_a_bad_record_costs_itself_alone(tmp_path: Path, text: str | bytes, errors: list[str]) -> None:
    assert [error for _, error in read(tmp_path, text)] == errors


@pytest.mark.usefixtures("chunk")
def test_the_key_of_the_records_may_be_named(tmp_path: Path) -> None:
    text = '{"d\\u0061ta": [{"a": 1}], "questions": [{"a": 2}], "n": [3]}'
    assert read(tmp_path, text) == [({"a": 1}, "")]
    assert read(tmp_path, text, records_key="questions") == [({"a": 2}, "")]
    with pytest.raises(UserError, match=r"a\.json: .* key 'n' \(keys with lists: data, questions\)"):
        read(tmp_path, text, records_key="n")
    with pytest.raises(UserError, match="not a JSON object"):
        read(tmp_path, "[]", records_key="data")


def test_of_several_lists_none_is_taken_silently(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"train": [{"a": 1}], "note": "x", "data": [{"a": 2}, {"a": 3}]}')
    with pytest.raises(UserError, match=r"several lists of records, under train, data; choose one with records_key$"):
        list(read_json(path))
    assert [record.fields for record in read_json(path, "data")] == [{"a": 2}, {"a": 3}]


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: does not start with a JSON object or list"):
        read(tmp_path, "question,answer\n1,2\n")


@pytest.mark.parametrize("text", ['[{"a": "%s"}, {"a": 1}]', '{"a": "%s"}\n{"a": 1}\n', '{\n"a": "%s"}\n{"a": 1}\n'])
def test_a_record_over_the_limit_is_not_held(tmp_path: Path, text: str) -> None:
    assert [error for _, error in read(tmp_path, text % ("x" * 300), limit=200)] == [TOO_LONG, ""]


class Zeros(io.RawIOBase):
    """A list of records that never ends, and the most that was asked of it at once."""

    asked = 0

    def read(self, n: int = -1) -> bytes:
        self.asked = max(self.asked, n)
        return b'{"a": "' + b"x" * 90 + b'"},'


def test_records_come_before_the_file_is_read_to_its_end() -> None:
    stream = Zeros()
    texts = json_files._elements(json_files._tokens(stream), 1000, inside=True)  # type: ignore[arg-type]
    assert [json.loads(next(texts)[0])["a"] for _ in range(1000)] == ["x" * 90] * 1000
    assert 0 < stream.asked <= json_files._CHUNK + 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=5),
    ascii_only=st.booleans(),
    indent=st.none() | st.just(1),
    size=st.integers(2, 40),
)
def test_equal_to_json_load(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict], ascii_only: bool, indent: int | None, size: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    before, json_files._CHUNK = json_files._CHUNK, size
    try:
        for value in (records, {"n": 1, "records": records}):
            path.write_text(json.dumps(value, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
            assert [record.fields for record in read_json(path)] == records
    finally:
        json_files._CHUNK = before


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]":, \n\\1a', max_size=60).map(str.encode))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    for start in (b"[", b"{", b'{"data": ['):
        path.write_bytes(start + content)
        for record in read_json(path):
            assert record.error or isinstance(record.fields, dict)


def test_compressed_files(tmp_path: Path) -> None:
    text = json.dumps([{"a": n} for n in range(500)]).encode()
    packers = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    for name, pack in packers.items():
        (tmp_path / f"a.json.{name}").write_bytes(pack(text))
    with pa.CompressedOutputStream(str(tmp_path / "a.json.zst"), "zstd") as stream:
        stream.write(text)
    for name in (*packers, "zst"):
        path = tmp_path / f"a.json.{name}"
        assert sum(record.fields["a"] for record in read_json(path)) == 124_750
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(UserError, match=rf"a\.json\.{name}: cannot be read"):
            list(read_json(path))
