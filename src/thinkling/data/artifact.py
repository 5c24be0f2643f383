"""Artifacts: directories that one stage writes once and later stages read.

``runs/<run>/<stage>-<hash8>/`` holds the stage's files and ``manifest.json``. While the stage runs, its directory is
called ``….partial``; a single rename sets its final name, after which it is immutable. The hash covers the stage's
inputs (resolved configuration, seed, code version and content digests of its input artifacts); the digest covers its
outputs. What varies between equal runs (times, host, memory) appears only in the manifest's ``recorded`` block.
"""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from thinkling.data.atomic import replacing
from thinkling.data.seals import digest_of, is_seal, lost, seal_of, sealed
from thinkling.errors import UserError

SCHEMA = 1
MANIFEST = "manifest.json"
OWN_DIGEST = "manifest_digest"
"""Field of the manifest's `recorded` block: the digest of everything else in that block."""
LOG_SUFFIX = ".log.jsonl"
"""Files with this suffix hold times and speeds: stored with the others but excluded from digests."""
RECORDED_PACKAGES = ("thinkling", "torch", "numpy", "pyarrow", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Artifact:
    """A finished directory. ``manifest`` is its manifest.json; a user's own model directory has a minimal one."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return self.manifest["digest"]

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest.get("counts", {})

    @property
    def model_dir(self) -> Path:
        """The Hugging Face directory inside: ``model/``, or the artifact itself if the user supplied it."""
        return self.path / "model" if (self.path / "model").is_dir() else self.path

    def file(self, name: str) -> Path:
        """Path of a file in the artifact.

        Raises UserError if the artifact has no such file.
        """
        path = self.path / name
        if not path.exists():
            raise UserError(f"{self.path} has no {name}: it is not the input that this stage needs")
        return path


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces, as used for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def hash_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises UserError if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def content_files(directory: Path) -> Iterator[str]:
    """Relative names of the files that count as content, in sorted order."""
    names = (str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    return iter(sorted(n for n in names if n != MANIFEST and not n.endswith(LOG_SUFFIX)))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False)
        stream.write("\n")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a finished artifact.

    Raises UserError if it is missing, is not JSON of the current schema, or was modified after it was written.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete {directory} to recreate it") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UserError(f"{path} does not have schema {SCHEMA}; delete {directory} to recreate it")
    recorded = manifest.get("recorded")
    own = recorded.pop(OWN_DIGEST, None) if isinstance(recorded, dict) else ""  # earlier versions did not write one
    if own is not None and own != hash_of(manifest):
        raise UserError(f"{path} was changed after the stage finished; delete {directory} to recreate it")
    return manifest


def is_finished(directory: Path) -> bool:
    """Whether a finished artifact exists.

    Raises UserError if the directory exists without a manifest: the directory is only renamed once it has one.
    """
    if directory.is_dir() and not (directory / MANIFEST).is_file():
        raise UserError(f"{directory / MANIFEST} is missing; delete {directory} to recreate it")
    return directory.is_dir()


def finish(partial: Path, final: Path, manifest: dict[str, Any], recorded: dict[str, Any]) -> Artifact:
    """Digests what a stage wrote to ``partial``, adds the manifest and renames the directory to ``final``.

    Raises UserError if a file differs from what was sealed while the stage was running.
    """
    files = {name: digest_of(partial / name) for name in content_files(partial) if not is_seal(partial / name)}
    seals = dict(sealed(partial))
    for path, entry in seals.items():
        name = str(path.relative_to(partial))
        if entry is None or files.get(name) != entry:
            raise lost(f"{path}: is {'damaged' if name in files else 'missing'}", partial)
    full = {
        "schema": SCHEMA,
        **manifest,
        "files": files,
        "digest": hash_of(files),
        "recorded": {
            **recorded,
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": installed_versions(),
            "finished_unix": round(time.time(), 1),
        },
    }
    full = json.loads(json.dumps(full))
    own = {OWN_DIGEST: hash_of(full)}
    write_json(partial / MANIFEST, full | {"recorded": full["recorded"] | own})
    return complete(partial, final)


def complete(partial: Path, final: Path) -> Artifact:
    """The last part of `finish`, from the manifest on; also for a run that was killed in the middle of it."""
    manifest = read_manifest(partial)
    for path, _ in list(sealed(partial)):
        seal_of(path).unlink()
    partial.rename(final)
    return Artifact(final, manifest)


def installed_versions() -> dict[str, str]:
    """Versions of the packages that may affect results."""
    return {name: metadata.version(name) for name in RECORDED_PACKAGES}


def verify(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Recomputes the digest of every file and compares it with the manifest.

    Raises UserError naming the first file that was changed, removed or added.
    """
    cure = f"delete {directory} to recreate it"
    files = manifest["files"]
    present = list(content_files(directory))
    for name in sorted({*files, *present}):
        if name not in present:
            raise UserError(f"{directory / name} is missing; {cure}")
        if name not in files:
            raise UserError(f"{directory / name} was added after the stage finished; remove it, or {cure}")
        if file_digest(directory / name) != files[name]["sha256"]:
            raise UserError(f"{directory / name} was changed after the stage finished; {cure}")
    if hash_of(files) != manifest["digest"]:
        raise UserError(f"{directory / MANIFEST} was changed after the stage finished; {cure}")


def model_source(path: Path) -> Artifact:
    """A user's Hugging Face model directory, wrapped as an artifact.

    Raises UserError if it has no config.json.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a Hugging Face model directory: it has no config.json")
    files = {n: {"sha256": file_digest(path / n)} for n in content_files(path) if not n.startswith(".")}
    return Artifact(path, {"digest": hash_of(files), "kind": "model"})


def directory_digests(directory: Path) -> dict[str, str]:
    """Name → SHA-256 of each file in a directory that a recipe points to (such as a tokenizer's), or of a single file.

    Raises UserError if the path does not exist.
    """
    if directory.is_file():
        return {directory.name: file_digest(directory)}
    if not directory.is_dir():
        raise UserError(f"{directory}: no such {'file' if directory.suffix else 'directory'}")
    return {name: file_digest(directory / name) for name in content_files(directory)}
