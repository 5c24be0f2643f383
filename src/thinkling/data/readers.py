"""Reads raw records from text files, JSON Lines and Parquet. `json_files` and `arrow_files` read the other formats.

A *file* that cannot be read stops the run with a UserError. A *record* that cannot be read is returned with its error,
and the caller rejects it. Files are never held in memory as a whole.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.arrow_values import as_text, value
from thinkling.errors import UserError

MAX_RECORD_BYTES = 64 * 2**20
"""Maximum size of a record. A longer record is returned as an error and not held in memory."""
TOO_LONG = f"longer than {MAX_RECORD_BYTES // 2**20} MiB"
BOM = b"\xef\xbb\xbf"
UNREADABLE = (".zip", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".br", ".snappy", ".sz", ".lzo", ".z")
"""File name extensions of compression and archive formats that are recognised but not supported."""
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks of encodings other than UTF-8, longest first."""
_SHOWN = 100_000
"""Number of bytes that are stored of a record that is too long."""


@dataclass(frozen=True)
class RawRecord:
    """A record as read from a file. If `fields` could not be parsed, `raw` contains the record's text for auditing."""

    fields: Mapping[str, object]
    """Field name → value. A value that cannot be read is `Unreadable`; the caller decides whether to reject the
    record."""
    origin: str
    """Location of the record: the file, and the line or row counted from 1."""
    error: str = ""
    raw: str = ""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Converts every exception caused by an unreadable file to a UserError with the file's path."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); fix or remove the file") from error


def read_text_files(paths: Iterable[str | Path], limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """Yields one record per file, with the fields `id` (the path as given) and `text`.

    The encoding is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Byte order marks are removed, and newlines are
    not changed. Compressed files are decompressed. `limit` is the maximum number of bytes per file.
    """
    for path in map(Path, paths):
        with readable(path), opened(path) as stream:
            content = stream.read(limit + 1).removeprefix(BOM)
        if len(content) > limit:
            yield RawRecord({}, str(path), TOO_LONG, content[:_SHOWN].decode(errors="replace"))
            continue
        try:
            yield RawRecord({"id": path.as_posix(), "text": content.decode()}, str(path))
        except UnicodeDecodeError:
            yield RawRecord({}, str(path), "not UTF-8", content.decode(errors="replace"))


def read_jsonl(path: str | Path, limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """Yields one record per line.

    Lines are split on b"\\n" only, so a record can contain U+2028. Blank lines and a byte order mark are skipped, and
    compressed files are decompressed. `limit` is the maximum number of bytes per line.
    """
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
    """Skips the rest of a line and returns whether the rest had any content."""
    rest = stream.readline(_SHOWN)
    more = bool(rest.strip(b"\r\n"))
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(_SHOWN)
    return more


def refuse_unreadable(path: Path) -> None:
    """Raises UserError for a file whose name indicates a compression format that is not supported."""
    if path.suffix.lower() in UNREADABLE:
        raise UserError(
            f"{path}: {path.suffix} files are not supported; decompress the file, or use .gz, .zst, .bz2 or .xz"
        )


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file as a stream of decompressed bytes.

    The stream is converted to UTF-8 if a byte order mark indicates UTF-16 or UTF-32. The compression is determined by
    the file's name, or by its first bytes if the name indicates none.
    """
    refuse_unreadable(path)
    with path.open("rb") as file:
        start = file.read(10)
    kind = path.suffix.lower() if path.suffix.lower() in _OPENERS else _compression(start)
    opener = _OPENERS[kind] if kind else _open_plain
    with opener(path) as stream:
        start = cast("io.BufferedReader", stream).peek(4)[:4]
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
        yield stream if encoding is None else io.BufferedReader(_AsUtf8(path, stream, encoding))


def _compression(start: bytes) -> str:
    magic = {b"\x1f\x8b": ".gz", b"BZh91AY&SY": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
    return next((name for mark, name in magic.items() if start.startswith(mark)), "")


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _open_zstandard(path: Path) -> BinaryIO:
    return io.BufferedReader(cast("io.RawIOBase", pa.input_stream(str(path), compression="zstd")))


_OPENERS: Mapping[str, Callable[[Path], BinaryIO]] = {
    ".gz": lambda path: io.BufferedReader(gzip.GzipFile(path)),
    ".bz2": lambda path: io.BufferedReader(bz2.BZ2File(path)),
    ".xz": lambda path: io.BufferedReader(lzma.LZMAFile(path)),  # noqa: SIM115
    ".zst": _open_zstandard,
}


class _AsUtf8(io.RawIOBase):
    """Converts a stream in UTF-16 or UTF-32 to UTF-8 without a byte order mark."""

    def __init__(self, path: Path, stream: BinaryIO, encoding: str) -> None:
        self._path, self._stream, self._encoding = path, stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            chunk = self._stream.read(1 << 16)
            try:
                # A lone surrogate is invalid in every encoding, so it is encoded as bytes that are invalid in UTF-8.
                self._pending = self._decoder.decode(chunk, final=not chunk).encode(errors="surrogatepass")
            except UnicodeDecodeError as error:
                kind = self._encoding.upper()
                raise UserError(
                    f"{self._path}: the first bytes indicate {kind}, but the file is not valid {kind}; save it as UTF-8"
                ) from error
            if not chunk:
                break
        part, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def parse_record(text: bytes, origin: str) -> RawRecord:
    """Parses the JSON text of an object and returns a record, which contains an error if the text is invalid."""
    raw = text.decode(errors="replace")
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError:
        return RawRecord({}, origin, "not UTF-8", raw)
    except _KeyTwice:
        return RawRecord({}, origin, "a key twice in one JSON object", raw)
    except (ValueError, RecursionError):
        return RawRecord({}, origin, "not JSON", raw)
    if not isinstance(fields, dict):
        return RawRecord({}, origin, "not a JSON object", raw)
    return RawRecord(fields, origin)


class _KeyTwice(Exception):
    """Raised if a key occurs twice in one object, because it is unclear which of the two values is correct."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _KeyTwice
    return fields


def read_parquet(
    path: str | Path, rows_per_batch: int = 1024, columns: Collection[str] | None = None
) -> Iterator[RawRecord]:
    """Yields one record per row. Reads only those of the given `columns` that exist, or all columns if None."""
    path = Path(path)
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        wanted = None if columns is None else [name for name in names if name in columns]
        if wanted == []:  # without any column, pyarrow would return no rows
            yield from (RawRecord({}, f"{path}:{row}") for row in range(1, file.metadata.num_rows + 1))
        else:
            yield from batch_records(file.iter_batches(rows_per_batch, columns=wanted), path)


def batch_records(batches: Iterable[pa.RecordBatch], path: Path, limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """Yields the rows of a file's batches as records. `limit` is the maximum number of bytes per row."""
    row = 1
    for batch in batches:
        yield from _parse_batch(batch, path, row, limit)
        row += batch.num_rows


def _parse_batch(batch: pa.RecordBatch, path: Path, first_row: int, limit: int) -> Iterator[RawRecord]:
    """Yields the records of a batch.

    Arrow does not validate strings when they are written, and its range of dates is larger than Python's. A batch with
    an invalid value is therefore parsed row by row, and so is a batch that may contain a row over the limit.
    """
    if batch.nbytes <= limit:
        try:
            rows = as_text(batch).to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            pass
        else:
            for i, fields in enumerate(rows):
                yield RawRecord(fields, f"{path}:{first_row + i}")
            return
    for i in range(batch.num_rows):
        yield _parse_row(batch.slice(i, 1), f"{path}:{first_row + i}", limit)


def _parse_row(row: pa.RecordBatch, origin: str, limit: int) -> RawRecord:
    if row.nbytes > limit:
        return RawRecord({}, origin, TOO_LONG)
    return RawRecord({name: value(row.column(i)) for i, name in enumerate(row.schema.names)}, origin)
