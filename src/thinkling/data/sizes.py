"""Estimates the sizes of data files from their first records, for the estimate of a run's disk space."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinkling.data.readers import RawRecord

SAMPLE = 200
"""Number of records read per file."""
UNPACKED = 5.0
"""Bytes of text or JSON per byte of a compressed file. gzip and zstd reduce text to between a half and a fifth of its
size."""
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_FILES = 8


def estimate(
    files: Sequence[Path], read: Callable[[Path], Iterator[RawRecord]], text_field: str | None = None
) -> tuple[float, float]:
    """Returns the estimated size of some files in bytes of UTF-8, and their estimated number of records.

    The size is that of the field `text_field`, or of whole records as JSON if `text_field` is None. The average size of
    a record is estimated from the first 200 records of up to 8 files. A Parquet file contains its number of records;
    for other files, the number is estimated from the size of the file.
    """
    records = [r for file in files[:: max(1, -(-len(files) // _FILES))] for r in islice(read(file), SAMPLE)]
    if not records:
        return 0.0, 0.0
    json_bytes = sum(map(_json_bytes, records)) / len(records)
    content = json_bytes if text_field is None else sum(_text_bytes(r, text_field) for r in records) / len(records)
    n = sum(float(rows) if (rows := _rows(file)) is not None else unpacked(file) / json_bytes for file in files)
    return n * content, n


def unpacked(file: Path) -> float:
    """Returns the size of a file's content in bytes, which is overestimated for a compressed file."""
    size = file.stat().st_size
    return size * UNPACKED if file.suffix.lower() in _COMPRESSED else float(size)


def _rows(file: Path) -> int | None:
    if file.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows


def _json_bytes(record: RawRecord) -> int:
    text = json.dumps(record.fields, ensure_ascii=False, separators=(",", ":"), default=str)
    return len(text.encode(errors="replace")) + len(record.raw)


def _text_bytes(record: RawRecord, field: str) -> int:
    text = record.fields.get(field)
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0
