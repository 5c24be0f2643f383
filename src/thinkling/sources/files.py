"""The user's own text: plain files, JSON lines, Parquet."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream, Offer, Quality, Size, Source

if TYPE_CHECKING:
    from thinkling.data.readers import RawRecord
    from thinkling.tasks.problem import Split


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

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        from thinkling.data import sizes

        files = self.files()
        if self.type == "text":
            return Size(sum(map(sizes.unpacked, files)), len(files))
        return Size(*sizes.estimate(files, self._reader(), self.text_field))

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        paths = self.files()
        pieces = map(self._reader(), paths)
        size = self.estimated_size("documents")
        stream = DocumentStream(
            self.name,
            self.name,
            quality,
            pieces,
            len(paths),
            "files",
            text_field=self.text_field,
            n_records=size.records if size else None,
        )
        return [stream]

    def _reader(self) -> Callable[[Path], Iterator[RawRecord]]:
        from thinkling.data.readers import read_jsonl, read_parquet, read_text_files

        readers: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
            "text": lambda path: read_text_files([path]),
            "jsonl": read_jsonl,
            "parquet": lambda path: read_parquet(path, columns={self.text_field, "id"}),
        }
        return readers[self.type]
