"""Small tables: what is read is what was written, and what cannot be read is named."""

from pathlib import Path

import pyarrow as pa
import pytest

from thinkling.data.tables import read_table, write_table
from thinkling.errors import UserError

SCHEMA = pa.schema([("id", pa.string()), ("tokens", pa.list_(pa.int32()))])
ROWS = [{"id": "a", "tokens": [1, 2]}, {"id": "b", "tokens": []}]


def test_equal_rows_give_equal_bytes_and_come_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_table(tmp_path / name, ROWS, SCHEMA)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_table(tmp_path / "one", SCHEMA) == ROWS


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowException, TypeError)):
        write_table(tmp_path / "t", [{"id": "a", "tokens": ["no number"]}], SCHEMA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read as Parquet"), (b"x", "cannot be read as Parquet")]
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.parquet: {message}"):
        read_table(tmp_path / "t.parquet", SCHEMA)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [{"id": "a"}], pa.schema([("id", pa.string())]))
    with pytest.raises(UserError, match="the columns must be id, tokens"):
        read_table(tmp_path / "t", SCHEMA)
