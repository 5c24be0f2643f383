"""Tokens on disk, with one memory-mapped directory per source.

    <artifact>/<source>/tokens.bin   little-endian uint16 (vocabulary ≤ 65,536) or uint32, documents end to end
    <artifact>/<source>/index.bin    little-endian int64, n + 1 offsets; document i is tokens[index[i]:index[i + 1]]
    <artifact>/<source>/source.json  sizes, type and checksums

Every document ends with the end-of-text token.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thinkling.errors import UserError

SCHEMA = 1
_OFFSETS = "offsets.bin"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def token_dtype(vocab_size: int) -> np.dtype:
    """Returns the type of the token ids on disk."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


class Position(NamedTuple):
    """What a `ShardWriter` has written so far."""

    n_documents: int = 0
    n_tokens: int = 0
    crc32: int = 0
    """CRC-32 of the tokens."""


class ShardWriter:
    """Context manager that writes one source. The directory receives its final name when the block succeeds.

    If `end_of_text_id` is given, it is appended to every document; otherwise documents are written unchanged. With
    `position`, the writer is resumable: it continues the files that an earlier writer left, from a position up to which
    that writer had saved them (`save`), and it keeps its files if the block raises an exception.
    """

    def __init__(
        self,
        directory: str | Path,
        source: str,
        vocab_size: int,
        end_of_text_id: int | None = None,
        position: Position | None = None,
    ) -> None:
        if not _NAME.fullmatch(source):
            raise UserError(
                f"source {source!r}: invalid name; use only letters, digits, '.', '_' and '-', and start with a letter "
                "or digit"
            )
        self.n_tokens = 0
        self._source = source
        self._vocab_size = vocab_size
        self._end = np.array([] if end_of_text_id is None else [end_of_text_id], dtype=np.int64)
        self._dtype = token_dtype(vocab_size)
        self._final = Path(directory) / source
        self._partial = Path(directory) / f"{source}.tmp"
        self._offsets = array("q", [0])
        self._saved = 0
        self._crc = 0
        self._position = position

    @property
    def n_documents(self) -> int:
        return len(self._offsets) - 1

    @property
    def position(self) -> Position:
        return Position(self.n_documents, self.n_tokens, self._crc)

    def __enter__(self) -> ShardWriter:
        if self._position is not None and self._position.n_documents:
            self._continue(self._position)
            return self
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._stream = (self._partial / "tokens.bin").open("wb")
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stream.close()
        if raised[0] is None:
            self._finish()
        if raised[0] is None or self._position is None:
            shutil.rmtree(self._partial, ignore_errors=True)

    def save(self) -> None:
        """Writes everything added so far to disk, so that another writer can continue from the current position."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        with (self._partial / _OFFSETS).open("ab") as stream:
            stream.write(np.frombuffer(self._offsets, dtype=np.int64)[self._saved :].astype("<i8").tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self._saved = len(self._offsets)

    def _continue(self, position: Position) -> None:
        """Opens the files of an earlier writer, which may have been killed at any time after it saved the position."""
        if self._final.exists():  # it was killed after it finished
            shutil.rmtree(self._partial, ignore_errors=True)
            self._final.rename(self._partial)
            shutil.copyfile(self._partial / "index.bin", self._partial / _OFFSETS)
        n = position.n_documents + 1
        size = position.n_tokens * self._dtype.itemsize
        offsets = np.fromfile(self._partial / _OFFSETS, dtype="<i8", count=n)
        crc = 0
        with (self._partial / "tokens.bin").open("rb") as stream:
            while left := size - stream.tell():
                if not (block := stream.read(min(left, 1 << 24))):
                    break
                crc = zlib.crc32(block, crc)
        if len(offsets) != n or offsets[-1] != position.n_tokens or crc != position.crc32:
            raise UserError(
                f"{self._partial}: its files are corrupt; delete {self._partial.parent.parent} to start over"
            )
        os.truncate(self._partial / _OFFSETS, 8 * n)
        os.truncate(self._partial / "tokens.bin", size)
        self._offsets = array("q", offsets.astype(np.int64).tobytes())
        self._saved, self.n_tokens, self._crc = n, position.n_tokens, crc
        self._stream = (self._partial / "tokens.bin").open("ab")

    def add(self, ids: np.ndarray) -> None:
        """Appends a document with ids (T,) of any integer type.

        Raises ValueError if the document is empty or an id is out of range.
        """
        ids = np.concatenate([np.asarray(ids, dtype=np.int64), self._end])
        if ids.size == 0 or int(ids.min()) < 0 or int(ids.max()) >= self._vocab_size:
            raise ValueError(f"{self._final}: document {self.n_documents} is empty or has ids outside the vocabulary")
        self.add_encoded(np.array([len(ids)]), ids.astype(self._dtype).tobytes())

    def add_encoded(self, lengths: np.ndarray, content: bytes) -> None:
        """Appends documents with these lengths, given as the bytes of their token ids of type `token_dtype`."""
        self._stream.write(content)
        self._crc = zlib.crc32(content, self._crc)
        self._offsets.frombytes((self.n_tokens + np.cumsum(lengths, dtype=np.int64)).tobytes())
        self.n_tokens = self._offsets[-1]

    def _finish(self) -> None:
        index = np.frombuffer(self._offsets, dtype=np.int64).astype("<i8").tobytes()
        (self._partial / "index.bin").write_bytes(index)
        description = {
            "schema": SCHEMA,
            "source": self._source,
            "dtype": self._dtype.str,
            "vocab_size": self._vocab_size,
            "n_documents": self.n_documents,
            "n_tokens": self.n_tokens,
            "tokens_crc32": self._crc,
            "index_crc32": zlib.crc32(index),
        }
        (self._partial / "source.json").write_text(json.dumps(description, indent=1) + "\n")
        (self._partial / _OFFSETS).unlink(missing_ok=True)
        shutil.rmtree(self._final, ignore_errors=True)
        self._partial.rename(self._final)


class TokenSource:
    """A source that was written by `ShardWriter`.

    Opening a source checks the sizes of its files and the index; `verify` also checks all tokens.
    """

    def __init__(self, directory: str | Path) -> None:
        """Opens the source. Raises UserError for a file that is missing, truncated or corrupt."""
        self._directory = Path(directory)
        meta = self._read_description()
        self.name: str = meta["source"]
        self.n_documents: int = meta["n_documents"]
        self.n_tokens: int = meta["n_tokens"]
        self.vocab_size: int = meta["vocab_size"]
        self._crc: int = meta["tokens_crc32"]
        self._tokens = self._map("tokens.bin", np.dtype(meta["dtype"]), self.n_tokens)
        self._index = self._map("index.bin", np.dtype("<i8"), self.n_documents + 1)
        if zlib.crc32(self._index.data) != meta["index_crc32"] or not self._index_is_sound():
            raise self._damaged("index.bin", "corrupt, because the content differs from what was written")
        self._lengths = np.diff(self._index)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens per document, int64 (n_documents,)."""
        return self._lengths

    def document(self, i: int) -> np.ndarray:
        """Returns the token ids of document i as a read-only view (T,) of uint16 or uint32."""
        return self._tokens[self._index[i] : self._index[i + 1]]

    def verify(self) -> None:
        """Reads every token. Raises UserError if tokens.bin was changed."""
        crc, step = 0, 1 << 24
        for start in range(0, self.n_tokens, step):
            crc = zlib.crc32(self._tokens[start : start + step].data, crc)
        if crc != self._crc:
            raise self._damaged("tokens.bin", "corrupt, because the content differs from what was written")

    def _index_is_sound(self) -> bool:
        return bool(self._index[0] == 0 and self._index[-1] == self.n_tokens and (np.diff(self._index) > 0).all())

    def _read_description(self) -> dict[str, Any]:
        path = self._directory / "source.json"
        try:
            meta = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise self._damaged("source.json", str(getattr(error, "strerror", None) or error)) from error
        numbers = ("n_documents", "n_tokens", "vocab_size", "tokens_crc32", "index_crc32")
        if (
            not isinstance(meta, dict)
            or meta.get("schema") != SCHEMA
            or meta.get("dtype") not in ("<u2", "<u4")
            or not isinstance(meta.get("source"), str)
            or not all(isinstance(meta.get(name), int) and meta[name] >= 0 for name in numbers)
        ):
            raise self._damaged("source.json", f"not a token description with schema {SCHEMA}")
        return meta

    def _map(self, name: str, dtype: np.dtype, n: int) -> np.ndarray:
        path = self._directory / name
        try:
            size = path.stat().st_size
            if size != n * dtype.itemsize:
                raise self._damaged(name, f"the file has {size} bytes instead of {n * dtype.itemsize}")
            # Convert to a plain ndarray, because slicing an np.memmap is several times slower.
            return np.asarray(np.memmap(path, dtype=dtype, mode="r")) if n else np.empty(0, dtype=dtype)
        except OSError as error:
            raise self._damaged(name, error.strerror or str(error)) from error

    def _damaged(self, name: str, what: str) -> UserError:
        return UserError(f"{self._directory / name}: {what}; run the tokenize stage again")


class MemorySource:
    """Documents in memory, with the interface of `TokenSource`, for tests, benchmarks and small experiments."""

    def __init__(self, name: str, documents: Sequence[np.ndarray]) -> None:
        self.name = name
        self.n_documents = len(documents)
        self.lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        self._documents = list(documents)

    def document(self, i: int) -> np.ndarray:
        """Returns the token ids of document i, (T,)."""
        return self._documents[i]


def open_sources(directory: str | Path) -> dict[str, TokenSource]:
    """Opens all sources of a tokens artifact and returns them by name, in order. Raises UserError if there are none."""
    found = sorted(path.parent for path in Path(directory).glob("*/source.json"))
    if not found:
        raise UserError(f"{directory}: no token sources; use an artifact of a tokenize stage")
    return {path.name: TokenSource(path) for path in found}
