"""Text of one's own: which files are read, and what their documents are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from thinkling.errors import UserError
from thinkling.sources.files import FilesSource


def source(**fields: Any) -> FilesSource:
    return TypeAdapter(FilesSource).validate_python(fields).bind("mine", {})


def ids(**fields: Any) -> list[Any]:
    (stream,) = source(**fields).documents("hq", 0)
    return [record.fields["id"] for piece in stream.pieces for record in piece]


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, some of which no one means, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "deep/a.md", ".hidden.txt", ".git/c.txt", "picture.png", "d.jsonl"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(f"The text of {name}.")
    (tmp_path / "elsewhere.txt").write_text("Not in the folder.")
    (tmp_path / "texts" / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    return tmp_path / "texts"


def test_a_folder_was_no_such_file() -> None:
    assert ids(type="text", paths=["texts"]) == ["texts/b.txt", "texts/deep/a.md"]
    assert [path.name for path in source(type="jsonl", paths=["texts"]).files()] == ["d.jsonl"]


def test_a_folder_without_a_file_of_the_type_is_named() -> None:
    with pytest.raises(UserError, match=r"texts: no file in this folder ends in \.parquet"):
        source(type="parquet", paths=["texts"]).files()
    with pytest.raises(UserError, match="text: no such file"):
        source(type="text", paths=["text"]).files()


def test_ids_of_documents_held_the_absolute_path(texts: Path) -> None:
    """The same whether a folder, a pattern or the file is given, and from there as the relative ones."""
    assert ids(type="text", paths=[str(texts)]) == ids(type="text", paths=["texts"])
    assert ids(type="text", paths=[f"{texts}/**/*.md"]) == ["texts/deep/a.md"]
    assert ids(type="text", paths=[f"{texts}/deep/a.md"]) == ["a.md"]
    assert ids(type="text", paths=["texts/deep/*.md"]) == ["texts/deep/a.md"]
