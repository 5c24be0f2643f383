"""Source type for the user's own text, as plain files, JSON Lines or Parquet."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream, Offer, Quality, Size, Source

if TYPE_CHECKING:
    from thinkling.data.readers import RawRecord
    from thinkling.tasks.problem import Split

ENDINGS = {"text": (".txt", ".md"), "jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet",)}
"""Source type → extensions of the files that are read from a folder. The extension of a compression may follow, as in
`.txt.gz`."""
COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz")


class FilesSource(Source):
    """The user's own text files."""

    type: Literal["text", "jsonl", "parquet"]
    paths: list[str] = Field(min_length=1)
    """Files, folders or glob patterns, relative to the working directory. In a folder, all files at any depth with an
    extension of the source's type are read: .txt and .md for `text`, .jsonl and .ndjson for `jsonl`, .parquet for
    `parquet`. With type `text`, each file is one document."""
    text_field: str = "text"
    """Column (Parquet) or key (JSONL) that contains the text."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"documents"})

    def files(self) -> list[Path]:
        """Returns the files matched by the patterns, each once, sorted within a pattern.

        Raises UserError if a pattern matches no file, or if it matches a file with an unsupported compression.
        """
        from thinkling.data.readers import refuse_unreadable

        found: dict[Path, None] = {}
        for pattern in self.paths:
            if Path(pattern).is_dir():
                matches = self._below(Path(pattern))
            else:
                matches = sorted(p for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file())
            if not matches:
                raise UserError(f"{pattern}: no such file; correct the path")
            for path in matches:
                refuse_unreadable(path)
            found |= dict.fromkeys(matches)
        return list(found)

    def _below(self, folder: Path) -> list[Path]:
        """Returns the sorted files of this type in the folder, except hidden files and links out of the folder."""
        endings = tuple(ending + packed for ending in ENDINGS[self.type] for packed in COMPRESSIONS)
        found = [p for p in folder.rglob("*") if p.name.endswith(endings) and p.is_file()]
        visible = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
        inside = sorted(p for p in visible if p.resolve().is_relative_to(folder.resolve()))
        if not inside:
            raise UserError(
                f"{folder}: no file in this folder ends in {' or '.join(ENDINGS[self.type])}; correct the path"
            )
        return inside

    def _texts(self, path: Path) -> Iterator[RawRecord]:
        """Yields the file as one document.

        If the recipe has absolute paths, the document's id is relative to `_root`, so that the id does not depend on
        where the files are stored on this machine.
        """
        from thinkling.data.readers import read_text_files

        for record in read_text_files([path]):
            if path.is_absolute() and "id" in record.fields:
                own = path.relative_to(self._root(path)).as_posix()
                record = replace(record, fields={**record.fields, "id": own})
            yield record

    def _root(self, path: Path) -> Path:
        """Returns the parent of the fixed part of the pattern that matches the file.

        The fixed part is the path before the first wildcard. If no pattern matches, returns the folder that contains
        the file.
        """
        for pattern in self.paths:
            fixed = Path(pattern)
            while glob.has_magic(str(fixed)):
                fixed = fixed.parent
            if path.is_relative_to(fixed):
                return fixed.parent
        return path.parent

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
        from thinkling.data.readers import read_jsonl, read_parquet

        readers: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
            "text": self._texts,
            "jsonl": read_jsonl,
            "parquet": lambda path: read_parquet(path, columns={self.text_field, "id"}),
        }
        return readers[self.type]
