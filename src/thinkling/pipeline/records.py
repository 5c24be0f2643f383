"""Reading of the records that stages wrote: the tables of an artifact and the rows of a table.

The form of a Parquet table is recognised by its columns, so a new stage needs no code in this module. A search first
reads the columns that it compares, then the row groups that contain matches. Only the results stay in memory.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.readers import readable
from thinkling.errors import UserError
from thinkling.pipeline.forms import LINES, PARQUET, Form, Row
from thinkling.pipeline.stage_folders import StageFolder

_FOLDERS = ("rollouts", "samples", "evaluations", "grades", "band")
"""Folders of an artifact that contain tables. Other folders contain models, shards and checkpoints."""
_TOKEN_LEVEL = frozenset({"logprobs", "versions", "prompt"})
"""Token-level columns that are not loaded. The token-level columns `tokens` and `forced` are loaded, because they are
needed to parse a completion."""


@dataclass(frozen=True)
class Table:
    """One table of an artifact, in one or more files."""

    folder: StageFolder
    name: str
    """Path relative to the artifact: the path of the table's file without its extension or, if the table consists of
    numbered files, the path of their folder."""
    form: Form
    files: tuple[Path, ...]

    @property
    def step(self) -> int | None:
        """The optimizer step after which the table's rollouts were sampled; None if its name has no step."""
        numbers = [part for part in self.name.split("/")[1:2] if part.isdigit()]
        return int(numbers[0]) if numbers else None


@dataclass(frozen=True)
class Item:
    """A record and its table."""

    table: Table
    row: Row

    @property
    def reason(self) -> str | None:
        return self.table.form.reason(self.row)


def tables(folder: StageFolder) -> list[Table]:
    """Return all tables of an artifact. If the stage is unfinished, return those with complete files.

    Raises UserError with the path of a file that cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.path.glob("*.parquet")):
        groups[path.stem] = [path]
    for top in _FOLDERS:
        for path in sorted((folder.path / top).rglob("*.parquet")):
            relative = path.relative_to(folder.path)
            name = relative.parent if path.stem.isdigit() else relative.with_suffix("")
            groups.setdefault(str(name), []).append(path)
    found = []
    for name, files in groups.items():
        with readable(files[0]):
            columns = set(pq.read_schema(files[0]).names)
        form = next((form for form in PARQUET if form.needs <= columns), None)
        if form is not None:
            found.append(Table(folder, name, form, tuple(files)))
    lines = [(folder.path / name, form) for name, form in LINES.items()]
    return found + [Table(folder, path.name, form, (path,)) for path, form in lines if path.is_file()]


@dataclass(frozen=True)
class _Part:
    """A row group of a Parquet file, or a whole file of JSON lines."""

    table: Table
    path: Path
    group: int
    n_rows: int | None
    """Number of rows; None for JSON lines, which must be read to count them."""

    def rows(self, columns: Sequence[str] | None, chosen: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Read the rows at the `chosen` indices, or all rows if None, with the given columns.

        If `columns` is None, every column except those of `_TOKEN_LEVEL` is read.
        """
        if self.path.suffix != ".parquet":
            wanted = None if chosen is None else frozenset(chosen)
            lines = (row for i, row in enumerate(_lines(self.path)) if wanted is None or i in wanted)
            return [row if columns is None else {name: row[name] for name in columns} for row in lines]
        names = _file(self.path).schema_arrow.names
        table = self._read([n for n in names if n not in _TOKEN_LEVEL] if columns is None else columns)
        return (table if chosen is None else table.take(pa.array(chosen, pa.int64()))).to_pylist()

    def values(self, column: str) -> list[Any]:
        """Read one column."""
        if self.path.suffix != ".parquet":
            return [row[column] for row in _lines(self.path)]
        return self._read([column]).column(0).to_pylist()

    def _read(self, columns: Sequence[str]) -> pa.Table:
        with readable(self.path):
            return _file(self.path).read_row_group(self.group, columns=list(columns))


def _file(path: Path) -> pq.ParquetFile:
    """Open a Parquet file. The file is cached, so that its metadata is not read again for each row group."""
    with readable(path):
        return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _opened(path: Path, changed: int) -> pq.ParquetFile:
    return pq.ParquetFile(path)


def _parts(table: Table) -> Iterator[_Part]:
    for path in table.files:
        if path.suffix != ".parquet":
            yield _Part(table, path, 0, None)
            continue
        metadata = _file(path).metadata
        for group in range(metadata.num_row_groups):
            yield _Part(table, path, group, metadata.row_group(group).num_rows)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file. In rejected.jsonl, the `id` of the rejected record (or None) is added to
    each object.

    An incomplete last line, which is still being written, is ignored. Raises UserError with the number of a line that
    is not JSON.
    """
    with readable(path), path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path}:{number}: invalid JSON; restore the file, or remove it to show the records in other files"
                ) from error
            yield row | {"id": record_of(row).get("id")} if "record" in row else row


def record_of(row: Row) -> dict[str, Any]:
    """Parse the record in a line of rejected.jsonl. Return {} if the record is not a JSON object or was truncated."""
    if not str(row.get("record", "")).startswith("{"):
        return {}
    try:
        found = json.loads(row["record"])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def ids(table: Table) -> Iterator[str]:
    """Yield all ids of a table's records. An id may occur more than once."""
    for part in _parts(table):
        for name in table.form.ids:
            yield from (str(identity) for identity in part.values(name) if identity is not None)


def find(wanted: Sequence[Table], identity: str, columns: Sequence[str] | None = None) -> list[Item]:
    """Return the records with this id, in order. `columns`: columns to read; if None, all except `_TOKEN_LEVEL`."""
    found = []
    for table in wanted:
        for part in _parts(table):
            at = sorted({i for name in table.form.ids for i, v in enumerate(part.values(name)) if v == identity})
            found += [Item(table, row) for row in part.rows(columns, at)] if at else []
    return found


def where(table: Table, columns: Sequence[str], takes: Callable[[Row], bool]) -> Iterator[dict[str, Any]]:
    """Yield the given columns of the rows that `takes` accepts, in order."""
    for part in _parts(table):
        yield from (row for row in part.rows(columns) if takes(row))


@dataclass(frozen=True)
class Drawn:
    """Records of one form, drawn at random."""

    total: int
    """Number of records from which the items were drawn."""
    items: list[Item]


def draw(
    wanted: Sequence[Table],
    columns: Callable[[Table], Sequence[str]],
    takes: Callable[[Table, Row], bool],
    n: int,
    seed: int,
) -> Drawn:
    """Draw `n` records (or all, if there are fewer) from the tables with the given seed. Return them in file order.

    `takes`: whether a record may be drawn, given the values of its table's `columns`. If there are no columns, every
    record of a Parquet table may be drawn.
    """

    def places(part: _Part) -> Sequence[int]:
        names = columns(part.table)
        if not names and part.n_rows is not None:
            return range(part.n_rows)
        return [i for i, row in enumerate(part.rows(names)) if takes(part.table, row)]

    parts = [part for table in wanted for part in _parts(table)]
    sizes = [len(places(part)) for part in parts]
    ranks = _ranks(sum(sizes), n, seed)
    items, start = [], 0
    for part, size in zip(parts, sizes, strict=True):
        mine = [rank - start for rank in ranks if start <= rank < start + size]
        start += size
        if mine:
            at = places(part)
            items += [Item(part.table, row) for row in part.rows(None, [at[i] for i in mine])]
    return Drawn(sum(sizes), items)


def draw_of(items: Sequence[Item], n: int, seed: int) -> Drawn:
    """Draw from records in memory in the same way as `draw`."""
    return Drawn(len(items), [items[rank] for rank in _ranks(len(items), n, seed)])


def _ranks(total: int, n: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(total), min(n, total)))


def count(table: Table, keys: Sequence[str], key: Callable[[Row], Any]) -> Counter[Any]:
    """Count the records of a table by `key`, which receives the columns `keys`.

    If `keys` is empty, no rows of Parquet files are read.
    """
    found: Counter[Any] = Counter()
    for part in _parts(table):
        if keys or part.n_rows is None:
            found.update(map(key, part.rows(keys)))
        else:
            found[key({})] += part.n_rows
    return found
