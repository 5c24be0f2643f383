"""Reads Arrow files written by the `datasets` library, in the stream format or the file format (Feather)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from thinkling.data.readers import RawRecord, batch_records, readable
from thinkling.errors import UserError

_FILE_FORMAT = b"ARROW1"
STATE = "state.json"
"""Name of the file that `Dataset.save_to_disk` writes next to its data files."""


def read_arrow(path: str | Path) -> Iterator[RawRecord]:
    """Yields one record per row."""
    path = Path(path)
    with readable(path), pa.OSFile(str(path), "rb") as stream:
        if stream.read(len(_FILE_FORMAT)) == _FILE_FORMAT:
            stream.seek(0)
            with pa.ipc.open_file(stream) as file:
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
                yield from batch_records(batches, path)
        else:
            stream.seek(0)
            with pa.ipc.open_stream(stream) as file:
                yield from batch_records(file, path)


def saved_files(directory: Path) -> list[Path]:
    """Returns the data files of a directory written by `Dataset.save_to_disk`, in order.

    Raises UserError if the saved state cannot be read, or if it lists a file that is missing from the directory.
    """
    state = directory / STATE
    with readable(state):
        text = state.read_text(encoding="utf-8")
    try:
        names = [entry["filename"] for entry in json.loads(text)["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{state}: not a file that save_to_disk of datasets wrote ({error!r}); save the data set again with "
            "save_to_disk"
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise UserError(
                f"{directory}: {STATE} lists {name!r}, which is not in it; save the data set again with save_to_disk"
            )
    return [directory / name for name in names]
