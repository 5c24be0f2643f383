"""The user's own text: plain files, JSON lines, Parquet."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream, Offer, Quality, Source


class FilesSource(Source):
    """The user's own text."""

    type: Literal["text", "jsonl", "parquet"]
    paths: list[str] = Field(min_length=1)
    """Files or glob patterns, relative to the working directory. With type `text`, each file is one document."""
    text_field: str = "text"
    """Column (Parquet) or key (JSONL) of the text."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"documents"})

    def files(self) -> list[Path]:
        """The files matched by the patterns, each once, sorted within a pattern.

        Raises UserError if a pattern matches no file, or one with an unsupported compression.
        """
        from thinkling.data.readers import refuse_unreadable

        found: dict[Path, None] = {}
        for pattern in self.paths:
            matches = sorted(p for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file())
            if not matches:
                raise UserError(f"{pattern}: no such file")
            for path in matches:
                refuse_unreadable(path)
            found |= dict.fromkeys(matches)
        return list(found)

    def digests(self) -> dict[str, Any]:
        from thinkling.data.artifact import file_digest

        return {str(path): file_digest(path) for path in self.files()}

    def summary(self) -> str:
        return f"{len(self.files())} files"

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        from thinkling.data.readers import read_jsonl, read_parquet, read_text_files

        paths = self.files()
        readers = {
            "text": lambda path: read_text_files([path]),
            "jsonl": read_jsonl,
            "parquet": lambda path: read_parquet(path, columns={self.text_field, "id"}),
        }
        pieces = map(readers[self.type], paths)
        return [DocumentStream(self.name, self.name, quality, pieces, len(paths), "files", text_field=self.text_field)]
