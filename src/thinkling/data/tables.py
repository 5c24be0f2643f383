"""Small tables of an artifact as Parquet: written atomically, with equal bytes for equal rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.atomic import replacing
from thinkling.errors import UserError


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Writes rows, each a mapping by column."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of a file, in order. Raises UserError naming it if it cannot be read or has other columns."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error})") from error
    if not table.schema.equals(schema):
        raise UserError(f"{path}: its columns are not {', '.join(schema.names)}")
    return table.to_pylist()
