"""Documents: the ledger adds up, bad records are kept with their reason, and files are whole or named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.documents import (
    SCHEMA,
    Counts,
    RejectedWriter,
    admit,
    document_id,
    read_documents,
    write_documents,
)
from thinkling.data.readers import RawRecord, read_parquet
from thinkling.errors import UserError


def document(i: int, **changes: object) -> dict:
    return {"id": f"d{i}", "text": f"text {i}", "source": "s", "quality": "hq", "markup": i % 2 == 0} | changes


def admitted(records: list[RawRecord], folder: Path, **options: object) -> tuple[list[dict], Counts, list[dict]]:
    """What `admit` passes on, the ledger, and the rejected file's rows."""
    counts = Counts("read")
    with RejectedWriter(folder / "rejected.parquet") as rejected:
        defaults = {"source": "web", "quality": "mq", "counts": counts, "rejected": rejected}
        kept = list(admit(records, **(defaults | options)))  # type: ignore[arg-type]
    return kept, counts, pq.read_table(folder / "rejected.parquet").to_pylist()


@pytest.mark.parametrize("rows_per_group", [1, 3, 1000])
def test_written_documents_are_read_in_order(tmp_path: Path, rows_per_group: int) -> None:
    documents = [document(i) for i in range(10)]
    path = tmp_path / "new" / "documents.parquet"
    assert write_documents(path, iter(documents), rows_per_group) == 10
    assert list(read_documents(path)) == documents
    assert pq.ParquetFile(path).num_row_groups == -(-10 // rows_per_group)
    assert [p.name for p in path.parent.iterdir()] == ["documents.parquet"]


def test_same_documents_give_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_documents(tmp_path / name, (document(i) for i in range(50)), 7)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_documents_make_an_empty_file_and_grades_are_columns(tmp_path: Path) -> None:
    write_documents(tmp_path / "none", [])
    assert list(read_documents(tmp_path / "none")) == []
    graded = [document(0, depth=7), document(1, depth=None)]
    write_documents(tmp_path / "graded", graded, schema=SCHEMA.append(pa.field("depth", pa.int8())))
    assert list(read_documents(tmp_path / "graded")) == graded


@pytest.mark.parametrize("wrong", [{"text": None}, {"extra": 1}])
def test_a_row_that_does_not_fit_leaves_no_file(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError, match="'d1'"):
        write_documents(tmp_path / "d.parquet", [document(0), document(1, **wrong)])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_midway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_documents(path, [document(0)])
    before = path.read_bytes()

    def failing():
        yield document(1)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_documents(path, failing(), rows_per_group=1)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.parquet"]


def test_broken_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    write_documents(good, (document(i, text=f"text {i} " * 50) for i in range(300)))
    content = good.read_bytes()
    broken = {
        "empty": b"",
        "text": b"not parquet at all",
        "cut": content[: len(content) // 2],
        "flipped": content[:600] + bytes([content[600] ^ 0xFF]) + content[601:],
    }
    for name, damaged in broken.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(damaged)
        for read in (read_documents, read_parquet):
            with pytest.raises(UserError, match=rf"{name}\.parquet: cannot be read") as caught:
                list(read(path))
            assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="nowhere"):
        list(read_documents(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "text": "b"}], "column 'source' is missing"),
        ([document(0, markup="yes")], "column 'markup' has type string; convert it to bool"),
        ([document(0, quality="best")], "'d0'"),
        ([document(0), document(1, text=None)], "'d1'"),
    ],
)
def test_a_file_that_is_no_documents_file(tmp_path: Path, rows: list[dict], message: str) -> None:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    with pytest.raises(UserError, match=rf"d\.parquet: .*{message}"):
        list(read_documents(tmp_path / "d.parquet"))


def test_bad_records_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    bad = {
        "no text": {},
        "text is not a string": {"text": 3},
        "empty": {"text": " \n\t\0 "},
        "only NUL characters": {"text": "\0\0"},
        "not UTF-8": {"text": json.loads('"a\\ud800b"')},
        "too long": {"text": "x" * 21},
        "too short": {"text": " ab "},
    }
    records = [RawRecord(fields, f"f:{i}") for i, fields in enumerate(bad.values())]
    records.insert(3, RawRecord({}, "f:x", error="not JSON", raw="{oops"))
    records += [RawRecord({"text": "good one"}, "f:y"), RawRecord({"text": "also\0good", "id": "mine"}, "f:z")]
    kept, counts, rejected = admitted(records, tmp_path, length=(3, 20), markup=True)
    assert [(row["id"], row["reason"]) for row in rejected] == [
        *[(f"f:{i}", reason) for i, reason in enumerate(list(bad)[:3])],
        ("f:x", "not JSON"),
        *[(f"f:{i + 3}", reason) for i, reason in enumerate(list(bad)[3:])],
    ]
    assert rejected[3]["text"] == "{oops"
    assert rejected[1]["text"] == "3"
    assert counts.as_dict() == {"in": 10, "kept": 2, "rejected": dict.fromkeys(sorted([*bad, "not JSON"]), 1)}
    first = {"id": document_id("web", "good one"), "text": "good one", "source": "web", "quality": "mq", "markup": True}
    assert kept == [first, first | {"id": "mine", "text": "also\0good"}]
    write_documents(tmp_path / "kept.parquet", kept)
    assert list(read_documents(tmp_path / "kept.parquet")) == kept


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["text", "id"]), st.none() | st.integers() | st.text(max_size=8))))
def test_in_is_kept_plus_rejected_whatever_comes(tmp_path_factory: pytest.TempPathFactory, fields: list[dict]) -> None:
    records = [RawRecord(f, str(i)) for i, f in enumerate(fields)]
    kept, counts, rejected = admitted(records, tmp_path_factory.mktemp("admit"), length=(1, 5))
    ledger = counts.as_dict()
    assert ledger["in"] == len(fields) == len(kept) + len(rejected)
    assert (ledger["kept"], sum(ledger["rejected"].values())) == (len(kept), len(rejected))


def test_a_ledger_that_does_not_add_up_is_an_error() -> None:
    counts = Counts("dedup", received=3, kept=1)
    counts.reject("duplicate")
    with pytest.raises(RuntimeError, match=r"dedup: 3 in, but 1 kept \+ 1 rejected"):
        counts.as_dict()


def test_the_text_field_and_the_quality_are_checked(tmp_path: Path) -> None:
    kept, _, _ = admitted([RawRecord({"body": "hello", "text": 1}, "f:1")], tmp_path, text_field="body")
    assert kept[0]["text"] == "hello"
    with pytest.raises(UserError, match="unknown value 'best'; use one of hq, mq"):
        admitted([], tmp_path, quality="best")
