"""Counts the records that a stage's sources delivered and rejected, so that no record is lost silently.

The number of records that were read equals the number of kept records plus the number of rejected records by reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "rejected.jsonl"
NOT_DRAWN = "not drawn"
"""Reason for records beyond the requested number. These records are valid, so they are counted but not stored."""
MAX_CHARACTERS = 100_000
"""Length to which the text of a rejected record is truncated."""


class Ledger:
    """Counts records per source. Rejected records are written to a JSON Lines file for auditing.

    A source always reads its records in the same order, so a resumed stage rewrites the file from the start.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Stores rejected records in the file `path`, which is created for the first one.

        If `path` is None, rejected records are only counted.
        """
        self._path = path
        self._kept: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {}
        self._opened = False
        self._restored: frozenset[str] = frozenset()

    def keep(self, source: str, n: int = 1) -> None:
        """Counts `n` records as delivered by a source."""
        if source not in self._restored:
            self._kept[source] += n

    def leave_out(self, source: str, reason: str, n: int) -> None:
        """Counts `n` valid records that were skipped, such as records beyond the requested number.

        The records are not written to the file.
        """
        if n and source not in self._restored:
            self._rejected.setdefault(source, Counter())[reason] += n

    def reject(self, source: str, where: str, reason: str, record: Any = None, detail: str = "") -> None:
        """Counts one record as rejected and writes it to the file.

        `where` is the file and line. `reason` must be short and contain no details of the record, because records are
        counted by reason. `record` is the content that was read, as a JSON value or text. `detail` contains further
        information, such as the part of the record that is invalid.
        """
        if source in self._restored:
            return
        self._rejected.setdefault(source, Counter())[reason] += 1
        self.note(source, where, reason, record, detail)

    def note(self, source: str, where: str, reason: str, record: Any = None, detail: str = "") -> None:
        """Writes a record to the file without counting it, because the source counts the record as kept and the stage,
        which excludes the record, has its own count."""
        if self._path is None or source in self._restored:
            return
        line = {"source": source, "where": where, "reason": reason, "detail": detail, "record": _text(record)}
        with self._path.open("a" if self._opened else "w", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._opened = True

    def restore(self, counts: Mapping[str, Mapping[str, Any]]) -> None:
        """Restores the counts of a killed run, so that further records are appended to its file.

        Must be called before any record is counted. Later counts for the restored sources are ignored, because the
        restored counts already include them.
        """
        if self._kept or self._rejected:
            raise ValueError("records were counted before the counts of the killed run were restored")
        self._kept = Counter({source: entry["kept"] for source, entry in counts.items()})
        self._rejected = {source: Counter(entry["rejected"]) for source, entry in counts.items()}
        self._restored = frozenset(counts)
        self._opened = True

    def counts(self) -> dict[str, dict[str, Any]]:
        """Returns `{"in", "kept", "rejected": {reason: n}}` for each source."""
        found: dict[str, dict[str, Any]] = {}
        for name in sorted(self._kept.keys() | self._rejected.keys()):
            rejected = dict(sorted(self._rejected.get(name, {}).items()))
            kept = self._kept[name]
            found[name] = {"in": kept + sum(rejected.values()), "kept": kept, "rejected": rejected}
        return found


def _text(record: Any) -> str:
    try:
        text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError, TypeError):  # the record is nested too deeply, or is not JSON
        text = f"a record that cannot be written as JSON, with {len(record)} fields"
    return text[:MAX_CHARACTERS]
