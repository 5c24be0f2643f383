"""Raw material as records: text files, JSON lines, Parquet.

A *file* that cannot be read is the user's mistake and stops the run (UserError). A *record* that cannot be read is
passed on with its error, and `documents.admit` quarantines it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.errors import UserError


@dataclass(frozen=True)
class RawRecord:
    """One record as it was found; `raw` is its text where `fields` could not be had, for those who audit."""

    fields: Mapping[str, object]
    origin: str
    """Where it stands: file, and line or row counted from 1."""
    error: str = ""
    raw: str = ""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns the ways in which a file can be unreadable into one UserError that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); mend or remove the file") from error


def read_text_files(paths: Iterable[str | Path]) -> Iterator[RawRecord]:
    """A record a file, fields `id` (the path as given) and `text` (UTF-8, newlines as they are)."""
    for path in map(Path, paths):
        with readable(path):
            content = path.read_bytes()
        try:
            yield RawRecord({"id": path.as_posix(), "text": content.decode()}, str(path))
        except UnicodeDecodeError:
            yield RawRecord({}, str(path), "not UTF-8", content.decode(errors="replace"))


def read_jsonl(path: str | Path) -> Iterator[RawRecord]:
    """A record a line, split on b"\\n" only (U+2028 stays inside a record); blank lines are none. `.gz` is unpacked."""
    path = Path(path)
    with readable(path), _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _parse_line(line, f"{path}:{number}")


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _parse_line(line: bytes, origin: str) -> RawRecord:
    raw = line.decode(errors="replace")
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError:
        return RawRecord({}, origin, "not UTF-8", raw)
    except (ValueError, RecursionError):
        return RawRecord({}, origin, "not JSON", raw)
    if not isinstance(fields, dict):
        return RawRecord({}, origin, "not a JSON object", raw)
    return RawRecord(fields, origin)


def read_parquet(path: str | Path, rows_per_batch: int = 1024) -> Iterator[RawRecord]:
    """A record a row."""
    path = Path(path)
    row = 1
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(rows_per_batch):
            yield from _parse_batch(batch, path, row)
            row += batch.num_rows


def _parse_batch(batch: pa.RecordBatch, path: Path, first_row: int) -> Iterator[RawRecord]:
    """Parquet's strings are not checked when they are written: a batch with a bad one is gone through row by row."""
    try:
        for i, fields in enumerate(batch.to_pylist()):
            yield RawRecord(fields, f"{path}:{first_row + i}")
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            yield _parse_row(batch.slice(i, 1), f"{path}:{first_row + i}")


def _parse_row(row: pa.RecordBatch, origin: str) -> RawRecord:
    try:
        return RawRecord(row.to_pylist()[0], origin)
    except UnicodeDecodeError:
        return RawRecord({}, origin, "not UTF-8")
