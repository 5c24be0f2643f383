"""Reads and writes the small tables of an artifact as Parquet, atomically and with equal bytes for equal rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.atomic import replacing
from thinkling.errors import UserError


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Writes rows, each given as a mapping from column to value."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Returns the rows of a file, in order. Raises UserError if the file cannot be read or has different columns."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error}); restore or recreate the file") from error
    if not table.schema.equals(schema):
        raise UserError(f"{path}: the columns must be {', '.join(schema.names)}; restore or recreate the file")
    return table.to_pylist()
