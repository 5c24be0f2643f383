"""Samples for the report: some rows of every Parquet file of an artifact, distributed over the kinds of rows in the
file.

The kind of a file is determined by its columns, so stages need no code in this module. Only row groups that contain a
selected row are read in full, and token-level columns are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.readers import readable

Form = Literal["documents", "rejected", "conversations", "rollouts", "rows"]
# Maximum number of row groups that are searched. If a table has more row groups, evenly spaced ones are searched.
MAX_PARTS = 256
MAX_LABELS = 24


@dataclass(frozen=True)
class Layout:
    """The columns by which the rows of a form are grouped, and the number of rows shown per group."""

    form: Form
    needs: frozenset[str]
    labels: tuple[str, ...]
    each: int


LAYOUTS = (
    Layout("rollouts", frozenset({"family", "question", "text", "outcome"}), ("family", "outcome"), 1),
    Layout("conversations", frozenset({"messages"}), ("source",), 2),
    Layout("rejected", frozenset({"text", "reason"}), ("reason", "source"), 1),
    Layout("documents", frozenset({"text", "source", "quality"}), ("source",), 2),
    Layout("rows", frozenset(), ("family", "source", "stage", "kind", "outcome", "verdict", "reason"), 2),
)


@dataclass(frozen=True)
class Table:
    """A table of an artifact, stored in one or more files, and the rows selected from it, by label."""

    name: str
    form: Form
    n_rows: int
    samples: list[tuple[tuple[str, ...], list[dict[str, Any]]]]


def tables(directory: Path) -> list[Table]:
    """Return all tables of an artifact. The chunks (`00000.parquet`, …) of a folder form one table.

    Raises UserError with the path if a file cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(directory.rglob("*.parquet")):
        relative = path.relative_to(directory)
        chunk = path.stem.replace("-", "").isdigit() and len(relative.parts) > 1
        groups.setdefault(str(relative.parent if chunk else relative.with_suffix("")), []).append(path)
    found = [read_table(name, files) for name, files in groups.items()]
    return [table for table in found if table.n_rows]


def read_table(name: str, files: Sequence[Path]) -> Table:
    """Read a table and select rows for each label, at even distances. The same files always result in the same
    selection."""
    n_rows, parts = 0, []
    for path in files:
        with readable(path), pq.ParquetFile(path) as file:
            n_rows += file.metadata.num_rows
            parts += [(path, group) for group in range(file.metadata.num_row_groups)]
    with readable(files[0]), pq.ParquetFile(files[0]) as file:
        schema = file.schema_arrow
    layout = next(layout for layout in LAYOUTS if layout.needs <= set(schema.names))
    labels = [c for c in layout.labels if c in schema.names and pa.types.is_string(schema.field(c).type)]
    if layout.form == "rows":
        labels = labels[:1]
    parts = spread(parts, MAX_PARTS)
    where: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for part, (path, group) in enumerate(parts):
        with readable(path), pq.ParquetFile(path) as file:
            columns = file.read_row_group(group, columns=labels).to_pydict() if labels else {}
            size = file.metadata.row_group(group).num_rows
        for row in range(size):
            where.setdefault(tuple(columns[c][row] or "" for c in labels), []).append((part, row))
    chosen = {label: spread(at, layout.each) for label, at in list(where.items())[:MAX_LABELS]}
    if layout.form == "rollouts":
        chosen = dict(sorted(chosen.items(), key=lambda item: _order(item[0], list(where))))
    rows = read_rows(parts, [at for places in chosen.values() for at in places], shown_columns(schema))
    return Table(name, layout.form, n_rows, [(label, [rows[at] for at in places]) for label, places in chosen.items()])


def spread(values: list[Any], n: int) -> list[Any]:
    """Return `n` of the values at even distances, or all values if there are at most `n`."""
    if len(values) <= n:
        return values
    return [values[(2 * i + 1) * len(values) // (2 * n)] for i in range(n)]


def _order(label: tuple[str, ...], seen: list[tuple[str, ...]]) -> tuple[int, int, str]:
    """Sort key of a label: families in the order of their appearance; within a family, `right`, then `wrong`, then the
    outcomes of samples that could not be judged."""
    families = list(dict.fromkeys(known[0] for known in seen))
    return families.index(label[0]), {"right": 0, "wrong": 1}.get(label[-1], 2), label[-1]


def shown_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that people can read, which excludes lists of numbers and bytes."""
    return [field.name for field in schema if not _is_raw(field.type)]


def _is_raw(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.types.is_primitive(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def read_rows(
    parts: list[tuple[Path, int]], places: list[tuple[int, int]], columns: list[str]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Read rows by place. A place is the index of a part (a row group of a file) and the row's index in the part."""
    found = {}
    for part in sorted({part for part, _ in places}):
        path, group = parts[part]
        wanted = [row for p, row in places if p == part]
        with readable(path), pq.ParquetFile(path) as file:
            rows = file.read_row_group(group, columns=columns).take(pa.array(wanted)).to_pylist()
        found.update({(part, row): value for row, value in zip(wanted, rows, strict=True)})
    return found
