"""Digests of raw material: what stands outside the recipe and yet decides a stage's result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thinkling.data.artifact import content_files, file_digest
from thinkling.errors import UserError
from thinkling.stages.curate import stdlib
from thinkling.stages.sources import FilesSource, StdlibSource


def source_digests(source: Any) -> dict[str, Any]:
    """Name → SHA-256 of a source's files; for Python's own library also its version.

    Raises UserError if a pattern fits no file, or a file cannot be read.
    """
    if isinstance(source, StdlibSource):
        return stdlib.provenance(stdlib.root(), [source.part])
    if isinstance(source, FilesSource):
        return {str(path): file_digest(path) for path in source.files()}
    return {}


def directory_digests(directory: Path) -> dict[str, str]:
    """Name → SHA-256 of the files of a directory that a recipe points to, such as a tokenizer's.

    Raises UserError if it is not there.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    return {name: file_digest(directory / name) for name in content_files(directory)}
