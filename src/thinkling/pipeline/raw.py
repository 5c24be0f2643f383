"""Digests of raw material: what stands outside the recipe and yet decides a stage's result."""

from __future__ import annotations

import platform
import sys
from typing import Any

from thinkling.data.artifact import file_digest
from thinkling.stages.sources import FilesSource, StdlibSource


def raw_digests(source: Any) -> dict[str, str]:
    """Name → SHA-256 of a source's files; for Python's own library its patch version, which fixes the files.

    Raises UserError if a pattern fits no file, or a file cannot be read.
    """
    if isinstance(source, StdlibSource):
        return {"python": f"{platform.python_implementation()} {platform.python_version()} {sys.platform}"}
    if isinstance(source, FilesSource):
        return {str(path): file_digest(path) for path in source.files()}
    return {}
