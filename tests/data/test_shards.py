"""Shards: what was written is read, and a damaged file is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.shards import ShardWriter, TokenSource, open_sources
from thinkling.errors import UserError


def write(folder: Path, documents: list[list[int]], vocab_size: int = 1000, name: str = "hq-code") -> Path:
    with ShardWriter(folder, name, vocab_size) as writer:
        for ids in documents:
            writer.add(np.array(ids, dtype=np.int32))
    return folder / name


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=20), max_size=20),
    st.sampled_from([65536, 65537, 166144]),
)
def test_documents_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], vocab_size: int
) -> None:
    source = TokenSource(write(tmp_path_factory.mktemp("shards"), documents, vocab_size))
    assert [source.document(i).tolist() for i in range(source.n_documents)] == documents
    assert source.lengths.tolist() == [len(ids) for ids in documents]
    assert source.lengths.dtype == np.int64
    assert source.n_tokens == sum(map(len, documents))
    assert (source.name, source.vocab_size) == ("hq-code", vocab_size)
    source.verify()


def test_layout_on_disk(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "s", 65536, end_of_text_id=9) as writer:
        writer.add(np.array([1, 258]))
        writer.add(np.array([65535]))
        assert (writer.n_documents, writer.n_tokens) == (2, 5)
    assert (tmp_path / "s" / "tokens.bin").read_bytes() == bytes([1, 0, 2, 1, 9, 0, 255, 255, 9, 0])
    assert np.fromfile(tmp_path / "s" / "index.bin", dtype="<i8").tolist() == [0, 3, 5]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_documents_are_read_only_views(tmp_path: Path) -> None:
    document = TokenSource(write(tmp_path, [[1, 2, 3]])).document(0)
    with pytest.raises(ValueError, match="read-only"):
        document[0] = 5


@pytest.mark.parametrize("ids", [[], [-1], [1000]])
def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="document 1 "):
        write(tmp_path, [[999], ids])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="invalid name; use only"):
        ShardWriter(tmp_path, name, 1000)


def test_a_left_over_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    killed = ShardWriter(tmp_path, "hq-code", 1000)
    killed.__enter__()
    killed.add(np.array([5] * 100))
    killed._stream.flush()
    assert TokenSource(write(tmp_path, [[1], [2]])).n_tokens == 2
    assert [p.name for p in tmp_path.iterdir()] == ["hq-code"]


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        flipped = bytes([content[8] ^ 1]) + content[9:]
        path.write_bytes(
            {"cut": content[:-3], "empty": b"", "longer": content + b"\0", "flipped": content[:8] + flipped}[how]
        )


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "longer", "flipped"])
@pytest.mark.parametrize("name", ["tokens.bin", "index.bin", "source.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, how: str) -> None:
    path = write(tmp_path, [[1, 2, 3], [4, 5, 6], [7]])
    damage(path / name, how)
    with pytest.raises(UserError, match=f"hq-code/{name}: "):
        TokenSource(path).verify()


@pytest.mark.parametrize(
    "change", [{"dtype": "<f8"}, {"n_tokens": -1}, {"n_documents": "3"}, {"schema": 2}, {"source": 1}]
)
def test_a_description_that_makes_no_sense(tmp_path: Path, change: dict) -> None:
    path = write(tmp_path, [[1, 2, 3]])
    meta = json.loads((path / "source.json").read_text()) | change
    (path / "source.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"source\.json: "):
        TokenSource(path)


def test_sources_of_an_artifact_in_order(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token sources"):
        open_sources(tmp_path)
    for name in ("mq-code", "hq-docs"):
        write(tmp_path, [[1, 2]], name=name)
    assert list(open_sources(tmp_path)) == ["hq-docs", "mq-code"]
