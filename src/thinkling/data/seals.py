"""Digests of files that a stage sets down on the way, so that a resumed run takes no damaged one.

Beside a file `NAME` lies `.NAME.seal` with its size and SHA-256. Seals exist only while a stage works: its manifest
takes their place (`data/artifact.py:finish`, which compares with them).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from thinkling.data.atomic import replacing
from thinkling.errors import UserError

SUFFIX = ".seal"
_BLOCK = 1 << 20


def digest_of(path: Path, n_bytes: int | None = None) -> dict[str, Any]:
    """Size and SHA-256 of a file, as manifests hold them; of its first `n_bytes` alone where they are given.

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
    """Writes the digest of a file, or of all files in a directory, beside it; or of one file into the directory
    `place`."""
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        with replacing(seal_of(file, place)) as temporary:
            temporary.write_text(json.dumps(digest_of(file)) + "\n", encoding="utf-8")


def seal_of(path: Path, place: Path | None = None) -> Path:
    """Where the digest of a file is, beside it or in `place`."""
    return (place or path.parent) / f".{path.name}{SUFFIX}"


def is_seal(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(SUFFIX)


def sealed(directory: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The files below a directory that have a seal, there or not, and what the seal says; None where it is damaged."""
    for found in sorted(path for path in directory.rglob(f".*{SUFFIX}") if is_seal(path)):
        yield found.with_name(found.name[1 : -len(SUFFIX)]), _read(found)


def damage(path: Path) -> str | None:
    """What is wrong with a sealed file, in words; None if nothing is."""
    if not path.is_file():
        return f"{path}: is missing"
    if not seal_of(path).is_file():
        return f"{path}: has no digest beside it"
    entry = _read(seal_of(path))
    if entry is None or path.stat().st_size != entry["bytes"] or digest_of(path) != entry:
        return f"{path}: is damaged"
    return None


def drop_damaged(path: Path, warn: Callable[[str], None], cure: str) -> None:
    """Deletes the files below a directory, or the one file, that are not as they were sealed, and says so: they are
    made again, as `cure` says. What a killed run had not come to seal is deleted too."""
    for file in _of(path):
        if not file.exists() and not seal_of(file).exists():
            continue
        if reason := damage(file):
            if file.suffix != ".tmp":  # what a killed run had not finished writing
                warn(f"{reason}; {cure}")
            file.unlink(missing_ok=True)
            seal_of(file).unlink(missing_ok=True)


def require(path: Path, stage: Path) -> None:
    """Raises UserError if a sealed file, or one of a directory, is not as it was written. `stage`: the directory of
    the stage, which has to be run again then."""
    for file in _of(path):
        if reason := damage(file):
            raise lost(reason, stage)


def check(stage: Path) -> None:
    """Raises UserError if any sealed file of a stage is not as it was written."""
    for file, _ in sealed(stage):
        if reason := damage(file):
            raise lost(reason, stage)


def lost(reason: str, stage: Path) -> UserError:
    """The error where a damaged file cannot be made again."""
    return UserError(f"{reason}, and cannot be made again; restore it, or delete {stage} to run the stage anew")


def require_lines(content: bytes, path: Path, place: Path, stage: Path) -> None:
    """Raises UserError if what is kept of a log is not what it was at the checkpoint `place`."""
    marker = seal_of(path, place)
    if marker.is_file() and _read(marker) != {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}:
        raise UserError(
            f"{path}: is damaged, or {marker} is: its lines are not those of the checkpoint; restore it, delete "
            f"{marker} to go on with {path.name} as it is, or delete {stage} to run the stage anew"
        )


def _of(path: Path) -> list[Path]:
    """The file itself, or the files below a directory, there or only sealed."""
    return sorted({*_files(path), *(file for file, _ in sealed(path))}) if path.is_dir() else [path]


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not is_seal(path))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} else None
