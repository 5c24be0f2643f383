"""Artifacts: directories that are written once by one stage and read by later stages.

``runs/<run>/<stage>-<hash8>/`` contains the stage's files and ``manifest.json``. While the stage runs, the name of its
directory ends in ``.partial``. A single rename sets the final name; from then on, the directory is immutable. The hash
in the directory's name covers the stage's inputs (resolved configuration, seed, code version and content digests of its
input artifacts). The artifact's own digest covers the stage's outputs. Values that vary between equal runs (times,
host, memory) appear only in the manifest's ``recorded`` block.
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
"""Field of the manifest's `recorded` block that contains the digest of the rest of the manifest."""
LOG_SUFFIX = ".log.jsonl"
"""Suffix of logs, which contain times and speeds. Logs are stored in the artifact but excluded from the artifact's
digest."""
RECORDED_PACKAGES = ("thinkling", "torch", "numpy", "pyarrow", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Artifact:
    """The finished directory of an artifact.

    ``manifest`` is the content of the directory's manifest.json, or a minimal manifest for a user's own model
    directory.
    """

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
        """The Hugging Face directory: ``model/`` in the artifact, or the directory itself if the user supplied it."""
        return self.path / "model" if (self.path / "model").is_dir() else self.path

    def file(self, name: str) -> Path:
        """Returns the path of a file in the artifact.

        Raises UserError if the artifact has no such file.
        """
        path = self.path / name
        if not path.exists():
            raise UserError(
                f"{self.path} has no file {name}; set the stage's input to an artifact that contains this file"
            )
        return path


def canonical(value: Any) -> str:
    """Returns the value as JSON with sorted keys and no spaces, which is the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def hash_of(value: Any) -> str:
    """Returns the SHA-256 (hex) of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's bytes.

    Raises UserError if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def content_files(directory: Path) -> Iterator[str]:
    """Returns the sorted relative names of the files that an artifact's digest covers: all files except the manifest
    and logs."""
    names = (str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    return iter(sorted(n for n in names if n != MANIFEST and not n.endswith(LOG_SUFFIX)))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False)
        stream.write("\n")


def read_manifest(directory: Path) -> dict[str, Any]:
    """Returns the manifest of a finished artifact.

    Raises UserError if the manifest is missing, is not JSON with the current schema, or was modified after it was
    written.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete {directory} and run the recipe again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UserError(f"{path} is not a manifest of schema {SCHEMA}; delete {directory} and run the recipe again")
    recorded = manifest.get("recorded")
    own = recorded.pop(OWN_DIGEST, None) if isinstance(recorded, dict) else ""  # None for manifests of old versions
    if own is not None and own != hash_of(manifest):
        raise UserError(f"{path} was changed after the stage finished; delete {directory} and run the recipe again")
    return manifest


def is_finished(directory: Path) -> bool:
    """Returns whether a finished artifact exists in the directory.

    Raises UserError if the directory exists but has no manifest, because the manifest is always written before the
    directory is renamed.
    """
    if directory.is_dir() and not (directory / MANIFEST).is_file():
        raise UserError(f"{directory / MANIFEST} is missing; delete {directory} and run the recipe again")
    return directory.is_dir()


def finish(partial: Path, final: Path, manifest: dict[str, Any], recorded: dict[str, Any]) -> Artifact:
    """Computes the digests of the files in ``partial``, adds the manifest and renames the directory to ``final``.

    Raises UserError if a file differs from the seal that was written while the stage was running.
    """
    files = {name: digest_of(partial / name) for name in content_files(partial) if not is_seal(partial / name)}
    seals = dict(sealed(partial))
    for path, entry in seals.items():
        name = str(path.relative_to(partial))
        if entry is None or files.get(name) != entry:
            raise lost(f"{path} is {'corrupt' if name in files else 'missing'}", partial)
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
    """Performs the steps of `finish` that follow the writing of the manifest, also for a run that was killed during
    these steps."""
    manifest = read_manifest(partial)
    for path, _ in list(sealed(partial)):
        seal_of(path).unlink()
    partial.rename(final)
    return Artifact(final, manifest)


def installed_versions() -> dict[str, str]:
    """Returns the versions of the packages that may affect results."""
    return {name: metadata.version(name) for name in RECORDED_PACKAGES}


def verify(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Recomputes the digest of every file and compares it with the manifest.

    Raises UserError for the first file that was changed, removed or added.
    """
    cure = f"delete {directory} and run the recipe again"
    files = manifest["files"]
    present = list(content_files(directory))
    for name in sorted({*files, *present}):
        if name not in present:
            raise UserError(f"{directory / name} is missing; {cure}")
        if name not in files:
            raise UserError(f"{directory / name} was added after the stage finished; remove this file, or {cure}")
        if file_digest(directory / name) != files[name]["sha256"]:
            raise UserError(f"{directory / name} was changed after the stage finished; {cure}")
    if hash_of(files) != manifest["digest"]:
        raise UserError(f"{directory / MANIFEST} was changed after the stage finished; {cure}")


def model_source(path: Path) -> Artifact:
    """Returns a user's Hugging Face model directory as an artifact.

    Raises UserError if the directory has no config.json.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a Hugging Face model directory: it has no config.json; correct the path")
    files = {n: {"sha256": file_digest(path / n)} for n in content_files(path) if not n.startswith(".")}
    return Artifact(path, {"digest": hash_of(files), "kind": "model"})


def directory_digests(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file in a directory used by a recipe, such as a tokenizer's, by file name.

    `directory` can also be a single file.
    Raises UserError if the path does not exist.
    """
    if directory.is_file():
        return {directory.name: file_digest(directory)}
    if not directory.is_dir():
        raise UserError(f"{directory}: no such {'file' if directory.suffix else 'directory'}; correct the path")
    return {name: file_digest(directory / name) for name in content_files(directory)}
