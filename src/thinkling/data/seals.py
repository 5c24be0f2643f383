"""Digests of the files that a stage writes while it runs, so that a resumed run does not use a corrupt file.

The seal of a file `NAME` is the file `.NAME.seal` in the same directory, with the size and SHA-256 of `NAME`. Seals
exist only until the stage finishes. `data/artifact.py:finish` then compares the files with their seals and replaces the
seals with the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thinkling.data.atomic import replacing
from thinkling.errors import UserError

SUFFIX = ".seal"
_BLOCK = 1 << 20


def digest_of(path: Path, n_bytes: int | None = None) -> dict[str, Any]:
    """Returns the size and SHA-256 of a file, or of its first `n_bytes` if given, in the form used in manifests.

    Raises UserError if the file cannot be read.
    """
    digest, left = hashlib.sha256(), path.stat().st_size if n_bytes is None else n_bytes
    done = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(min(_BLOCK, left - done)):
                digest.update(block)
                done += len(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    return {"bytes": done, "sha256": digest.hexdigest()}


def seal(path: Path, place: Path | None = None) -> None:
    """Writes the seal of a file, or of every file below a directory.

    A seal is written to the directory of its file. The seal of a single file can be written to the directory `place`
    instead.
    """
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        with replacing(seal_of(file, place)) as temporary:
            temporary.write_text(json.dumps(digest_of(file)) + "\n", encoding="utf-8")


def seal_of(path: Path, place: Path | None = None) -> Path:
    """Returns the path of a file's seal, which is in the directory of the file or in `place`."""
    return (place or path.parent) / f".{path.name}{SUFFIX}"


def is_seal(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(SUFFIX)


def sealed(directory: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yields the files below a directory that have a seal, with the contents of the seal, or None if it is corrupt.

    A file with a seal is yielded even if the file itself does not exist.
    """
    for found in sorted(path for path in directory.rglob(f".*{SUFFIX}") if is_seal(path)):
        yield found.with_name(found.name[1 : -len(SUFFIX)]), _read(found)


def damage(path: Path) -> str | None:
    """Returns a description of what is wrong with a sealed file, or None if it is intact."""
    if not path.is_file():
        return f"{path} is missing"
    if not seal_of(path).is_file():
        return f"{path} has no seal"
    entry = _read(seal_of(path))
    if entry is None or path.stat().st_size != entry["bytes"] or digest_of(path) != entry:
        return f"{path} is corrupt"
    return None


def drop_damaged(path: Path, warn: Callable[[str], None], cure: str) -> None:
    """Deletes a file, or the files below a directory, if they differ from their seals, and warns about each of them.

    The files are recreated later; `cure` is the part of the warning that describes how they are recreated. Files
    without a seal, which a killed run leaves behind, are deleted as well.
    """
    for file in _of(path):
        if not file.exists() and not seal_of(file).exists():
            continue
        if reason := damage(file):
            if file.suffix != ".tmp":  # an incomplete file of a killed run
                warn(f"{reason}; {cure}")
            file.unlink(missing_ok=True)
            seal_of(file).unlink(missing_ok=True)


def require(path: Path, stage: Path) -> None:
    """Raises UserError if a sealed file, or any sealed file below a directory, was changed.

    `stage` is the directory of the stage that must be rerun in this case.
    """
    for file in _of(path):
        if reason := damage(file):
            raise lost(reason, stage)


def check(stage: Path, being_deleted: Sequence[Path]) -> None:
    """Raises UserError if any sealed file of a stage was changed.

    Files below the directories `being_deleted` are not checked, because a killed run may have deleted some of them.
    """
    for file, _ in sealed(stage):
        if any(file.is_relative_to(directory) for directory in being_deleted):
            continue
        if reason := damage(file):
            raise lost(reason, stage)


def lost(reason: str, stage: Path) -> UserError:
    """Returns the error for a missing or corrupt file that cannot be recreated."""
    return UserError(f"{reason} and cannot be recreated; restore the file, or delete {stage} to rerun the stage")


def require_lines(content: bytes, path: Path, place: Path, stage: Path) -> None:
    """Raises UserError if `content`, the part of the log `path` that a resumed run keeps, differs from the log as it
    was at the checkpoint `place`."""
    marker = seal_of(path, place)
    if marker.is_file() and _read(marker) != {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}:
        raise UserError(
            f"{path} does not match its checksum in {marker}, so one of these files is corrupt; restore the file, "
            f"delete {marker} to continue with {path.name} as it is, or delete {stage} to rerun the stage"
        )


def _of(path: Path) -> list[Path]:
    """Returns the file itself, or all files below a directory that exist or have a seal."""
    return sorted({*_files(path), *(file for file, _ in sealed(path))}) if path.is_dir() else [path]


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not is_seal(path))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} else None
