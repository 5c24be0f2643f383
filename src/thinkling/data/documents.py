"""Documents in Parquet files with the columns `id, text, source, quality, markup`, and the counts of curation steps.

In every step, the number of received documents equals the number of kept documents plus the number of rejected
documents by reason; `Counts.check` raises an error otherwise. Rejected documents are stored with the reason in a
separate Parquet file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.arrow_values import Unreadable
from thinkling.data.atomic import replacing
from thinkling.data.readers import RawRecord, readable
from thinkling.errors import UserError

Document = dict[str, Any]
"""A row as a mapping from column to value: the five columns of `SCHEMA`, and quality scores if a stage added them."""

QUALITIES = ("hq", "mq")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("quality", pa.string(), nullable=False),
        pa.field("markup", pa.bool_(), nullable=False),
    ]
)
REJECTED_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "source", "reason", "detail", "text")])
# Limits memory, because a row group is held as Python strings. An Arrow string column is limited to 2**31 bytes.
_CHARACTERS_PER_GROUP = 64_000_000


@dataclass
class Counts:
    """Counts of the documents that one step received, kept and rejected. The three numbers are counted
    independently."""

    step: str
    received: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def reject(self, reason: str) -> None:
        """Counts a document as rejected for this reason."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def check(self) -> None:
        """Raises RuntimeError if received ≠ kept + rejected, because the step then lost or duplicated documents."""
        turned_away = sum(self.rejected.values())
        if self.received != self.kept + turned_away:
            raise RuntimeError(f"{self.step}: {self.received} in, but {self.kept} kept + {turned_away} rejected")

    def as_dict(self) -> dict[str, Any]:
        """Checks the counts and returns `{"in", "kept", "rejected": {reason: n}}` with sorted reasons."""
        self.check()
        return {"in": self.received, "kept": self.kept, "rejected": dict(sorted(self.rejected.items()))}


class DocumentWriter:
    """Context manager that writes rows to a Parquet file in groups. The file appears only when it is complete."""

    def __init__(self, path: str | Path, schema: pa.Schema = SCHEMA, rows_per_group: int = 1024) -> None:
        self.path = Path(path)
        self.n_rows = 0
        self._schema = schema
        self._required = [f.name for f in schema if not f.nullable]
        self._rows_per_group = rows_per_group
        self._rows: list[Document] = []
        self._characters = 0
        self._stack = ExitStack()

    def __enter__(self) -> DocumentWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            self._parquet = stack.enter_context(
                pq.ParquetWriter(temporary, self._schema, compression="zstd", write_page_checksum=True)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._stack.__exit__(*raised)
            return
        with self._stack:
            self._flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row. Raises ValueError if its columns differ from the schema or a required value is None."""
        if set(row) != set(self._schema.names) or any(row[name] is None for name in self._required):
            raise ValueError(f"{self.path}: row {row.get('id')!r} does not match the columns {self._schema.names}")
        self._rows.append(dict(row))
        self._characters += len(row["text"] or "")
        self.n_rows += 1
        if len(self._rows) >= self._rows_per_group or self._characters >= _CHARACTERS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._characters = [], 0


def write_documents(
    path: str | Path, documents: Iterable[Mapping[str, Any]], rows_per_group: int = 1024, schema: pa.Schema = SCHEMA
) -> int:
    """Writes documents to a Parquet file and returns their number.

    `schema` is `SCHEMA`, optionally with additional columns for scores.
    """
    with DocumentWriter(path, schema, rows_per_group) as writer:
        for document in documents:
            writer.write(document)
    return writer.n_rows


def read_documents(path: str | Path, row_group: int | None = None) -> Iterator[Document]:
    """Yields the rows of a documents file, or of one of its row groups, in order.

    Raises UserError if the file is corrupt or not a documents file.
    """
    path = Path(path)
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        _check_schema(path, file.schema_arrow)
        for batch in file.iter_batches(1024, None if row_group is None else [row_group]):
            for document in _rows(path, batch):
                if any(document[name] is None for name in SCHEMA.names) or document["quality"] not in QUALITIES:
                    raise UserError(
                        f"{path}: document {document['id']!r} has a missing value or an unrecognised `quality`; "
                        "correct or remove the document"
                    )
                yield document


def number_of_documents(path: str | Path) -> int:
    """Returns the number of rows of a documents file. Raises UserError if the file cannot be read."""
    with readable(Path(path)):
        return pq.read_metadata(path).num_rows


def row_groups(path: str | Path) -> list[int]:
    """Returns the number of documents in each row group of a documents file. Raises UserError if the file cannot be
    read."""
    with readable(Path(path)):
        metadata = pq.read_metadata(path)
        return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def _check_schema(path: Path, found: pa.Schema) -> None:
    for column in SCHEMA:
        if column.name not in found.names:
            raise UserError(f"{path}: the column {column.name!r} is missing; use documents that a curate stage wrote")
        type_ = found.field(column.name).type
        if type_ != column.type and not (pa.types.is_large_string(type_) and pa.types.is_string(column.type)):
            raise UserError(f"{path}: the column {column.name!r} has type {type_}; convert it to {column.type}")


def _rows(path: Path, batch: pa.RecordBatch) -> list[Document]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: contains text that is not UTF-8; fix or remove the file") from error


class RejectedWriter:
    """Stores rejected documents for auditing, with the columns `id, source, reason, detail, text` (truncated)."""

    def __init__(self, path: str | Path, max_characters: int = 100_000) -> None:
        self._writer = DocumentWriter(path, REJECTED_SCHEMA)
        self._max_characters = max_characters

    def __enter__(self) -> RejectedWriter:
        self._writer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._writer.__exit__(*raised)

    @property
    def n_rows(self) -> int:
        return self._writer.n_rows

    def write(self, document: Mapping[str, Any], reason: str, detail: str = "") -> None:
        """Stores one document. `detail` contains further information, such as the problem that was found."""
        row = {name: _printable(document.get(name), self._max_characters) for name in ("id", "source", "text")}
        self._writer.write(row | {"reason": reason, "detail": _printable(detail, self._max_characters)})


def admit(
    records: Iterable[RawRecord],
    *,
    source: str,
    quality: str,
    counts: Counts,
    rejected: RejectedWriter,
    markup: bool = False,
    text_field: str = "text",
    length: tuple[int, int] = (1, 2_000_000),
) -> Iterator[Document]:
    """Converts raw records to documents.

    An invalid record is written to `rejected`: it does not stop the run and is not dropped silently. The `id` is the
    record's own id if that is a non-empty string, otherwise a hash of source and text (16 hex digits). `length` is the
    minimum and maximum number of characters of a document; the minimum excludes white space and NULs at the ends.
    """
    if quality not in QUALITIES:
        raise UserError(f"quality of source {source!r}: unknown value {quality!r}; use one of {', '.join(QUALITIES)}")
    for record in records:
        counts.received += 1
        text = record.fields.get(text_field)
        reason = record.error or _fault(text, *length)
        if reason:
            counts.reject(reason)
            told = record.raw if record.error else None if isinstance(text, Unreadable) else text
            shown = {"id": record.origin, "source": source, "text": told}
            rejected.write(shown, reason)
            continue
        own = record.fields.get("id")
        identity = own if isinstance(own, str) and own and _is_utf8(own) else document_id(source, str(text))
        counts.kept += 1
        yield {"id": identity, "text": text, "source": source, "quality": quality, "markup": markup}


def document_id(source: str, text: str) -> str:
    """Returns the id of a document whose record has no id: 16 hex digits of the SHA-256 of source and text."""
    return hashlib.sha256(f"{source}\x1f{text}".encode()).hexdigest()[:16]


def _fault(text: object, min_characters: int, max_characters: int) -> str:
    """Returns the reason why this text cannot be a document; empty if it can."""
    if text is None:
        return "no text"
    if isinstance(text, Unreadable):
        return text.reason
    if not isinstance(text, str):
        return "text is not a string"
    if not _is_utf8(text):
        return "not UTF-8"
    if text and not text.strip("\0"):
        return "only NUL characters"
    n = len(text.strip("\0 \t\r\n"))
    if n == 0:
        return "empty"
    if n < min_characters:
        return "too short"
    return "too long" if len(text) > max_characters else ""


def _is_utf8(text: str) -> bool:
    """Returns whether a text can be encoded. JSON can contain lone surrogates ("\\ud800"), which cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(value: object, max_characters: int) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else repr(value)
    return text[:max_characters].encode(errors="replace").decode()
