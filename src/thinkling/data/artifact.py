"""Artifacts: directories that a stage writes once and that later stages read.

``runs/<run>/<stage>-<hash8>/`` holds the stage's files and ``manifest.json``. While a stage works its directory is
called ``….partial``; it gets its name by one rename, and is immutable from then on. The hash covers what the stage was
asked to do (its resolved configuration, seed, code version and the content digests of its inputs); the digest covers
what came out. What varies between equal runs (times, host, memory) stands in the manifest's ``recorded`` block alone.
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
"""Field of the manifest's `recorded` block: the digest of all else in it."""
LOG_SUFFIX = ".log.jsonl"
"""Files of this ending carry times and speeds: kept beside the others, left out of digests."""
RECORDED_PACKAGES = ("thinkling", "torch", "numpy", "pyarrow", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Artifact:
    """A finished directory. ``manifest`` is its manifest.json; a user's own model directory has a small one."""

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
        """The Hugging Face directory in it: ``model/``, or the artifact itself where the user brought one."""
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
    """JSON with sorted keys and no spaces: what hashes are taken of."""
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
    """Relative names of the files that count as content, in order."""
    names = (str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    return iter(sorted(n for n in names if n != MANIFEST and not n.endswith(LOG_SUFFIX)))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False)
        stream.write("\n")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a finished artifact.

    Raises UserError if it is missing, is not JSON of this schema, or is not what was written.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete {directory} to make it again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UserError(f"{path} is not of schema {SCHEMA}; delete {directory} to make it again")
    recorded = manifest.get("recorded")
    own = recorded.pop(OWN_DIGEST, None) if isinstance(recorded, dict) else ""  # earlier versions wrote none
    if own is not None and own != hash_of(manifest):
        raise UserError(f"{path} was changed after the stage had finished; delete {directory} to make it again")
    return manifest


def is_finished(directory: Path) -> bool:
    """Whether an artifact is there.

    Raises UserError if its directory is there without a manifest: a stage's directory gets its name with it.
    """
    if directory.is_dir() and not (directory / MANIFEST).is_file():
        raise UserError(f"{directory / MANIFEST} is missing; delete {directory} to make it again")
    return directory.is_dir()


def finish(partial: Path, final: Path, manifest: dict[str, Any], recorded: dict[str, Any]) -> Artifact:
    """Digests what a stage wrote into ``partial``, adds the manifest and renames the directory to ``final``.

    Raises UserError if a file is no longer what was sealed while the stage worked.
    """
    files = {name: digest_of(partial / name) for name in content_files(partial) if not is_seal(partial / name)}
    seals = dict(sealed(partial))
    for path, entry in seals.items():
        name = str(path.relative_to(partial))
        if entry is None or files.get(name) != entry:
            raise lost(f"{path}: is {'damaged' if name in files else 'missing'}", partial)
    for path in seals:
        seal_of(path).unlink()
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
    partial.rename(final)
    return Artifact(final, full)


def installed_versions() -> dict[str, str]:
    """Versions of the packages that results may depend on."""
    return {name: metadata.version(name) for name in RECORDED_PACKAGES}


def verify(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Digests every file again and compares with the manifest.

    Raises UserError that names the first file that was changed, removed or added.
    """
    cure = f"delete {directory} to make it again"
    files = manifest["files"]
    present = list(content_files(directory))
    for name in sorted({*files, *present}):
        if name not in present:
            raise UserError(f"{directory / name} is missing; {cure}")
        if name not in files:
            raise UserError(f"{directory / name} was added after the stage had finished; remove it, or {cure}")
        if file_digest(directory / name) != files[name]["sha256"]:
            raise UserError(f"{directory / name} was changed after the stage had finished; {cure}")
    if hash_of(files) != manifest["digest"]:
        raise UserError(f"{directory / MANIFEST} was changed after the stage had finished; {cure}")


def model_source(path: Path) -> Artifact:
    """A Hugging Face directory of the user's, seen as an artifact.

    Raises UserError if it has no config.json.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a Hugging Face model directory: it has no config.json")
    files = {n: {"sha256": file_digest(path / n)} for n in content_files(path) if not n.startswith(".")}
    return Artifact(path, {"digest": hash_of(files), "kind": "model"})


def directory_digests(directory: Path) -> dict[str, str]:
    """Name → SHA-256 of the files of a directory that a recipe points to, such as a tokenizer's, or of one file.

    Raises UserError if it is not there.
    """
    if directory.is_file():
        return {directory.name: file_digest(directory)}
    if not directory.is_dir():
        raise UserError(f"{directory}: no such {'file' if directory.suffix else 'directory'}")
    return {name: file_digest(directory / name) for name in content_files(directory)}
