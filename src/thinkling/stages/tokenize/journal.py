"""The point from which a killed run of the stage continues.

The journal is written after the files that it describes. It is a log, which an artifact's digest does not cover.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from thinkling.data.atomic import replacing
from thinkling.data.shards import Position
from thinkling.errors import UserError

JOURNAL = "encode.log.jsonl"


@dataclass(frozen=True)
class Journal:
    """What has been written so far."""

    tokenizer: str
    """Digest of the tokenizer's files."""
    row_groups: int = 0
    """Number of row groups of the documents file."""
    text_bytes: Mapping[str, int] = field(default_factory=dict)
    """Group → size of the texts in UTF-8."""
    positions: Mapping[str, Position] = field(default_factory=dict)
    """`shards/<group>` or `validation/<group>` → what its writer has saved."""


def write_journal(directory: Path, journal: Journal) -> None:
    """Writes the journal atomically."""
    with replacing(directory / JOURNAL) as temporary:
        temporary.write_text(json.dumps(asdict(journal)) + "\n", encoding="utf-8")


def read_journal(directory: Path) -> Journal:
    """Reads the journal. Raises UserError if it is corrupt."""
    path = directory / JOURNAL
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        positions = {name: Position(*fields) for name, fields in found["positions"].items()}
        return Journal(found["tokenizer"], found["row_groups"], found["text_bytes"], positions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: corrupt; delete {directory} to start the stage over") from error
