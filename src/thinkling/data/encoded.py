"""Encoded conversations on disk, which are written once as a stream and read individually.

    tokens.bin        little-endian uint32: the token id; the highest bit is set if the token carries loss
    offsets.bin       little-endian int64, n + 1: conversation i is tokens[offsets[i]:offsets[i + 1]]
    loss_tokens.bin   little-endian int32, n: number of a conversation's tokens that are predicted with loss
    encoded.json      sizes and digests, the groups, the writer's `info`, and a digest of all of these

Conversations of a group are contiguous. The directory receives its final name only when everything is written, so a
killed run leaves no incomplete directory under this name. Only the index, 12 bytes per conversation, is memory-mapped.
Tokens are read from the file, because mapped pages would count towards the memory of the process.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thinkling.data.artifact import hash_of
from thinkling.data.seals import digest_of

_LOSS = np.uint32(1 << 31)
_INFO = "encoded.json"
_FILES = {"tokens.bin": "<u4", "offsets.bin": "<i8", "loss_tokens.bin": "<i4"}


class Group(NamedTuple):
    """A group of conversations, such as the conversations of one source."""

    name: str
    first: int
    n: int

    @property
    def items(self) -> range:
        return range(self.first, self.first + self.n)


class EncodedWriter:
    """Context manager that writes encoded conversations to a directory. `info` is a JSON object that is stored with the
    conversations."""

    def __init__(self, directory: Path) -> None:
        self.info: dict[str, Any] = {}
        self._final, self._partial = directory, directory.with_name(directory.name + ".tmp")
        self._groups: list[Group] = []
        self._n = self._n_tokens = 0

    def __enter__(self) -> EncodedWriter:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._files = {name: (self._partial / name).open("wb") for name in _FILES}
        self._write("offsets.bin", np.zeros(1))
        return self

    def __exit__(self, *raised: Any) -> None:
        for file in self._files.values():
            file.close()
        if raised[0] is None:
            self._finish()
        shutil.rmtree(self._partial, ignore_errors=True)

    def begin(self, group: str) -> None:
        """Starts a new group, to which all conversations added from now on belong."""
        self._groups.append(Group(group, self._n, 0))

    def add(self, ids: np.ndarray, loss: np.ndarray) -> None:
        """Appends a conversation with ids (T,) of any integer type and the mask of ids that carry loss, bool (T,)."""
        self._write("tokens.bin", ids.astype(np.uint32) | np.where(loss, _LOSS, np.uint32(0)))
        self._n, self._n_tokens = self._n + 1, self._n_tokens + len(ids)
        self._write("offsets.bin", np.array([self._n_tokens]))
        self._write("loss_tokens.bin", np.array([loss[1:].sum()]))
        self._groups[-1] = self._groups[-1]._replace(n=self._groups[-1].n + 1)

    def _write(self, name: str, values: np.ndarray) -> None:
        self._files[name].write(values.astype(_FILES[name]).tobytes())

    def _finish(self) -> None:
        files = {name: digest_of(self._partial / name) for name in _FILES}
        description = json.loads(json.dumps({"files": files, "groups": self._groups, "info": self.info}))
        description["digest"] = hash_of(description)
        (self._partial / _INFO).write_text(json.dumps(description, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.rmtree(self._final, ignore_errors=True)
        self._partial.rename(self._final)


def is_whole(directory: Path) -> bool:
    """Returns whether the directory is finished. Does not verify the files, which would be slow (see `damage`)."""
    return (directory / _INFO).is_file()


def damage(directory: Path) -> str | None:
    """Reads every file and describes the first that is missing or corrupt. Returns None if all are intact."""
    path = directory / _INFO
    if not path.is_file():
        return f"{path} is missing"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        own = description.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path} is corrupt"
    if own != hash_of(description):
        return f"{path} is corrupt"
    for name, entry in description["files"].items():
        if not (directory / name).is_file():
            return f"{directory / name} is missing"
        if digest_of(directory / name) != entry:
            return f"{directory / name} is corrupt"
    return None


class EncodedConversations:
    """Reads a directory written by `EncodedWriter`. Instances can be shared between threads."""

    def __init__(self, directory: Path) -> None:
        description = json.loads((directory / _INFO).read_text(encoding="utf-8"))
        self.groups = [Group(*fields) for fields in description["groups"]]
        self.info: Mapping[str, Any] = description["info"]
        self._offsets = np.memmap(directory / "offsets.bin", dtype="<i8", mode="r")
        self.n = len(self._offsets) - 1
        # An empty file cannot be memory-mapped.
        self._loss_tokens = np.memmap(directory / "loss_tokens.bin", dtype="<i4", mode="r") if self.n else np.zeros(0)
        self._tokens = (directory / "tokens.bin").open("rb")

    def close(self) -> None:
        """Closes the token file."""
        self._tokens.close()

    def lengths(self, items: np.ndarray) -> np.ndarray:
        """Returns the number of tokens of each item, int64."""
        return (self._offsets[items + 1] - self._offsets[items]).astype(np.int64)

    def loss_tokens(self, items: np.ndarray) -> np.ndarray:
        """Returns the number of tokens of each item that are predicted with loss, int64.

        The first token of an item is never predicted.
        """
        return self._loss_tokens[items].astype(np.int64)

    def read(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids, int32 (T,), and the loss mask, bool (T,), of one conversation."""
        start, stop = int(self._offsets[item]), int(self._offsets[item + 1])
        content = os.pread(self._tokens.fileno(), 4 * (stop - start), 4 * start)
        marked = np.frombuffer(content, dtype="<u4")
        return (marked & ~_LOSS).astype(np.int32), (marked & _LOSS).astype(bool)
