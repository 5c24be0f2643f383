"""Samples to read: some rows of every Parquet file of an artifact, spread over the kinds of rows that it holds.

A file's columns show what it holds, so that a stage needs no code here. Only the row groups that hold a chosen
row are read in full; token-level columns never are.
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
# Row groups that are searched, spread evenly where there are more.
MAX_PARTS = 256
MAX_LABELS = 24


@dataclass(frozen=True)
class Layout:
    """By which columns rows of one form are grouped, and how many of each group are shown."""

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
    """One table of an artifact, in one file or many, and the rows chosen of it, by label."""

    name: str
    form: Form
    n_rows: int
    samples: list[tuple[tuple[str, ...], list[dict[str, Any]]]]


def tables(directory: Path) -> list[Table]:
    """All tables of an artifact. Chunks (`00000.parquet`, …) of one folder are one table.

    Raises UserError naming the file where one cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(directory.rglob("*.parquet")):
        relative = path.relative_to(directory)
        chunk = path.stem.replace("-", "").isdigit() and len(relative.parts) > 1
        groups.setdefault(str(relative.parent if chunk else relative.with_suffix("")), []).append(path)
    found = [read_table(name, files) for name, files in groups.items()]
    return [table for table in found if table.n_rows]


def read_table(name: str, files: Sequence[Path]) -> Table:
    """Chooses rows: for each label, at even distances. The same files give the same choice."""
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
    """`n` of the values at even distances, or all where there are no more."""
    if len(values) <= n:
        return values
    return [values[(2 * i + 1) * len(values) // (2 * n)] for i in range(n)]


def _order(label: tuple[str, ...], seen: list[tuple[str, ...]]) -> tuple[int, int, str]:
    """Families as they come; right and wrong are side by side, what could not be judged after them."""
    families = list(dict.fromkeys(known[0] for known in seen))
    return families.index(label[0]), {"right": 0, "wrong": 1}.get(label[-1], 2), label[-1]


def shown_columns(schema: pa.Schema) -> list[str]:
    """Columns that a person can read: no lists of numbers, no bytes."""
    return [field.name for field in schema if not _is_raw(field.type)]


def _is_raw(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.types.is_primitive(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def read_rows(
    parts: list[tuple[Path, int]], places: list[tuple[int, int]], columns: list[str]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows by place: the number of the part, which is a file's row group, and the row in it."""
    found = {}
    for part in sorted({part for part, _ in places}):
        path, group = parts[part]
        wanted = [row for p, row in places if p == part]
        with readable(path), pq.ParquetFile(path) as file:
            rows = file.read_row_group(group, columns=columns).take(pa.array(wanted)).to_pylist()
        found.update({(part, row): value for row, value in zip(wanted, rows, strict=True)})
    return found
