"""Digests of files that a stage writes along the way, so that a resumed run does not use a damaged one.

The seal of a file `NAME` is `.NAME.seal` next to it, with its size and SHA-256. Seals exist only while a stage is
running: its manifest replaces them (`data/artifact.py:finish`, which compares the files with them).
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
    """Size and SHA-256 of a file, as stored in manifests, or of its first `n_bytes` if given.

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
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return {"bytes": done, "sha256": digest.hexdigest()}


def seal(path: Path, place: Path | None = None) -> None:
    """Writes the digest of a file, or of all files in a directory, next to it; or of a single file into the directory
    `place`."""
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        with replacing(seal_of(file, place)) as temporary:
            temporary.write_text(json.dumps(digest_of(file)) + "\n", encoding="utf-8")


def seal_of(path: Path, place: Path | None = None) -> Path:
    """Path of a file's digest, next to it or in `place`."""
    return (place or path.parent) / f".{path.name}{SUFFIX}"


def is_seal(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(SUFFIX)


def sealed(directory: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The sealed files below a directory, existing or not, with the contents of the seal; None if it is damaged."""
    for found in sorted(path for path in directory.rglob(f".*{SUFFIX}") if is_seal(path)):
        yield found.with_name(found.name[1 : -len(SUFFIX)]), _read(found)


def damage(path: Path) -> str | None:
    """Describes what is wrong with a sealed file; None if it is intact."""
    if not path.is_file():
        return f"{path}: is missing"
    if not seal_of(path).is_file():
        return f"{path}: has no digest next to it"
    entry = _read(seal_of(path))
    if entry is None or path.stat().st_size != entry["bytes"] or digest_of(path) != entry:
        return f"{path}: is damaged"
    return None


def drop_damaged(path: Path, warn: Callable[[str], None], cure: str) -> None:
    """Deletes the files below a directory, or the one file, that differ from their seal, with a warning: they are
    recreated, as `cure` says. Files that a killed run had not yet sealed are deleted too."""
    for file in _of(path):
        if not file.exists() and not seal_of(file).exists():
            continue
        if reason := damage(file):
            if file.suffix != ".tmp":  # left unfinished by a killed run
                warn(f"{reason}; {cure}")
            file.unlink(missing_ok=True)
            seal_of(file).unlink(missing_ok=True)


def require(path: Path, stage: Path) -> None:
    """Raises UserError if a sealed file, or one in a directory, was changed. `stage`: the directory of the stage that
    must be rerun in that case."""
    for file in _of(path):
        if reason := damage(file):
            raise lost(reason, stage)


def check(stage: Path, being_deleted: Sequence[Path]) -> None:
    """Raises UserError if any sealed file of a stage was changed, except below directories that a killed run may have
    deleted in part."""
    for file, _ in sealed(stage):
        if any(file.is_relative_to(directory) for directory in being_deleted):
            continue
        if reason := damage(file):
            raise lost(reason, stage)


def lost(reason: str, stage: Path) -> UserError:
    """The error for a damaged file that cannot be recreated."""
    return UserError(f"{reason}, and cannot be recreated; restore it, or delete {stage} to rerun the stage")


def require_lines(content: bytes, path: Path, place: Path, stage: Path) -> None:
    """Raises UserError if the retained part of a log differs from what it was at the checkpoint `place`."""
    marker = seal_of(path, place)
    if marker.is_file() and _read(marker) != {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}:
        raise UserError(
            f"{path}: is damaged, or {marker} is: its lines do not match the checkpoint; restore it, delete "
            f"{marker} to continue with {path.name} as it is, or delete {stage} to rerun the stage"
        )


def _of(path: Path) -> list[Path]:
    """The file itself, or the files below a directory, whether they exist or are only sealed."""
    return sorted({*_files(path), *(file for file, _ in sealed(path))}) if path.is_dir() else [path]


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not is_seal(path))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} else None
