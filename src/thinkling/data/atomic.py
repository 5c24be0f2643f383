"""Atomic file writes: a file is written under a temporary name and then moved to its final name by a single rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to.

    On success, the temporary file is renamed to `path`; if the block raises an exception, the temporary file is
    removed. The temporary name is always the same, so a killed run leaves at most one file, which the next run
    overwrites.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
