"""Raw material as records: text files, JSON lines, Parquet; `json_files` and `arrow_files` read the other forms.

A *file* that cannot be read is the user's mistake and stops the run (UserError). A *record* that cannot be read is
passed on with its error, and whoever asked for it quarantines it. No file is held in memory whole.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.errors import UserError

MAX_RECORD_BYTES = 64 * 2**20
"""A record longer than this is passed on as an error and not held in memory."""
TOO_LONG = f"longer than {MAX_RECORD_BYTES // 2**20} MiB"
BOM = b"\xef\xbb\xbf"
_SHOWN = 100_000
"""Of a record that is too long, the number of bytes that are passed on."""


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
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
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


def read_jsonl(path: str | Path, limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """A record per line, split on b"\\n" only (U+2028 stays inside a record). Blank lines are no records, a byte order
    mark is skipped, and compressed files are unpacked. `limit`: bytes of a line."""
    path = Path(path)
    with readable(path), opened(path) as stream:
        number, start = 0, BOM
        while line := stream.readline(limit):
            number += 1
            cut = _skip_line(stream) if len(line) == limit and not line.endswith(b"\n") else False
            line, start = line.removeprefix(start), b""
            if cut:
                yield RawRecord({}, f"{path}:{number}", TOO_LONG, line[:_SHOWN].decode(errors="replace"))
            elif line.strip():
                yield parse_record(line, f"{path}:{number}")


def _skip_line(stream: BinaryIO) -> bool:
    """Reads on to the end of a line; whether there was more of it."""
    rest = stream.readline(_SHOWN)
    more = bool(rest.strip(b"\r\n"))
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(_SHOWN)
    return more


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed while they are read."""
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zstandard}
    opener = openers.get(path.suffix)
    stream = opener(path, "rb") if opener else path.open("rb")
    with stream:
        yield cast("BinaryIO", stream)


def _open_zstandard(path: Path, _mode: str) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", pa.input_stream(str(path), compression="zstd")))


def parse_record(text: bytes, origin: str) -> RawRecord:
    """A record from the JSON text of an object, or its error."""
    raw = text.decode(errors="replace")
    try:
        fields = json.loads(text.decode())
    except UnicodeDecodeError:
        return RawRecord({}, origin, "not UTF-8", raw)
    except (ValueError, RecursionError):
        return RawRecord({}, origin, "not JSON", raw)
    if not isinstance(fields, dict):
        return RawRecord({}, origin, "not a JSON object", raw)
    return RawRecord(fields, origin)


def read_parquet(path: str | Path, rows_per_batch: int = 1024) -> Iterator[RawRecord]:
    """A record per row."""
    path = Path(path)
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield from batch_records(file.iter_batches(rows_per_batch), path)


def batch_records(batches: Iterable[pa.RecordBatch], path: Path, limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """The rows of a file's batches. `limit`: bytes of a row."""
    row = 1
    for batch in batches:
        yield from _parse_batch(batch, path, row, limit)
        row += batch.num_rows


def _parse_batch(batch: pa.RecordBatch, path: Path, first_row: int, limit: int) -> Iterator[RawRecord]:
    """Strings in Arrow's formats are not checked when they are written: a batch with a bad one is gone through row by
    row, and so is one that may hold a row over the limit."""
    if batch.nbytes <= limit:
        try:
            for i, fields in enumerate(batch.to_pylist()):
                yield RawRecord(fields, f"{path}:{first_row + i}")
            return
        except UnicodeDecodeError:
            pass
    for i in range(batch.num_rows):
        yield _parse_row(batch.slice(i, 1), f"{path}:{first_row + i}", limit)


def _parse_row(row: pa.RecordBatch, origin: str, limit: int) -> RawRecord:
    if row.nbytes > limit:
        return RawRecord({}, origin, TOO_LONG)
    try:
        return RawRecord(row.to_pylist()[0], origin)
    except UnicodeDecodeError:
        return RawRecord({}, origin, "not UTF-8")
