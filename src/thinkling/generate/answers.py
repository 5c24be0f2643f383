"""Stored answers of served models: an append-only file, keyed by request, so that no answer is paid for twice.

The file is stored next to a run's artifacts, so a stage that is rerun with different settings reuses the answers to
requests that did not change. Several processes may append to the file at the same time. An entry's key is a digest of
the request without the API key.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thinkling.generate.backends import Reply
from thinkling.generate.usage import Usage


class KeptAnswers:
    """The stored answers of one served model. If `path` is None, the answers are stored only in memory."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._found = {} if path is None else read_kept(path)

    @classmethod
    def of(cls, directory: Path | None, address: str, model: str) -> KeptAnswers:
        """Opens the model's file in the directory; without a directory, answers are stored only in memory."""
        name = hashlib.sha256(f"{address}\x1f{model}".encode()).hexdigest()[:16]
        return cls(None if directory is None else directory / f"{name}.log.jsonl")

    def get(self, key: str) -> tuple[Reply, Usage | None] | None:
        """Returns the stored answer to the request with this key, or None."""
        return self._found.get(key)

    def keep(self, key: str, reply: Reply, usage: Usage | None) -> None:
        """Stores an answer immediately, so that it is not lost if other requests fail later."""
        entry = {"key": key, "reply": asdict(reply), "usage": None if usage is None else asdict(usage)}
        with self._lock:
            self._found[key] = reply, usage
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _append(self.path, json.dumps(entry | {"digest": _digest(entry)}, ensure_ascii=False))


def key_of(address: str, body: Mapping[str, Any], seed: int) -> str:
    """Digest of a request. The seed is included even if the server does not receive it, because requests with different
    seeds must have separate answers."""
    return hashlib.sha256(json.dumps([address, body, seed], sort_keys=True).encode()).hexdigest()


def read_kept(path: Path) -> dict[str, tuple[Reply, Usage | None]]:
    """Returns the answers in a file by the keys of their requests. An incomplete last line, left by a killed process,
    is ignored silently; a corrupt line is ignored with a warning. A request whose answer is ignored is sent again."""
    found: dict[str, tuple[Reply, Usage | None]] = {}
    if not path.exists():
        return found
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            whole = entry.pop("digest") == _digest(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if whole:
            usage = entry["usage"]
            found[entry["key"]] = Reply(**entry["reply"]), None if usage is None else Usage(**usage)
        elif line and number < len(lines):
            warnings.warn(f"{path}: line {number} is corrupt; its request will be sent again", stacklevel=2)
    return found


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


def _append(path: Path, line: str) -> None:
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 1, 0))
        torn = size > 0 and stream.read(1) != b"\n"
        stream.write((b"\n" if torn else b"") + line.encode(errors="surrogatepass") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
