"""Counts what a stage's sources delivered and rejected: in = kept + rejected by reason, so nothing is lost silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "rejected.jsonl"
NOT_DRAWN = "not drawn"
"""Reason of records beyond the number that was asked for. They are sound, so they are only counted."""
MAX_CHARACTERS = 100_000
"""A rejected record's text is truncated to this length."""


class Ledger:
    """Counts records per source. Rejected records are written to a JSON Lines file for auditing.

    A source always reads in the same order, so a resumed stage rewrites the file from the start.
    """

    def __init__(self, path: Path | None = None) -> None:
        """`path`: the file of rejected records, created on the first one; if None, they are only counted."""
        self._path = path
        self._kept: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {}
        self._opened = False
        self._restored: frozenset[str] = frozenset()

    def keep(self, source: str, n: int = 1) -> None:
        """Counts `n` more records delivered by a source."""
        if source not in self._restored:
            self._kept[source] += n

    def leave_out(self, source: str, reason: str, n: int) -> None:
        """Counts `n` valid records that were skipped, such as those beyond the requested number; not written."""
        if n and source not in self._restored:
            self._rejected.setdefault(source, Counter())[reason] += n

    def reject(self, source: str, where: str, reason: str, record: Any = None, detail: str = "") -> None:
        """Rejects one record. `where`: file and line. `reason`: short and identical for all records of its kind,
        because records are counted by it. `record`: what was read, JSON or text. `detail`: what the reason does not
        say, such as which part of the record is affected."""
        if source in self._restored:
            return
        self._rejected.setdefault(source, Counter())[reason] += 1
        self.note(source, where, reason, record, detail)

    def note(self, source: str, where: str, reason: str, record: Any = None, detail: str = "") -> None:
        """Writes a record that the source counts as kept but the stage leaves out; the stage counts it itself."""
        if self._path is None or source in self._restored:
            return
        line = {"source": source, "where": where, "reason": reason, "detail": detail, "record": _text(record)}
        with self._path.open("a" if self._opened else "w", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._opened = True

    def restore(self, counts: Mapping[str, Mapping[str, Any]]) -> None:
        """Continues from the counts of a killed run and appends to its file. Call before anything is counted.

        Later counts for these sources are ignored, because they are included already.
        """
        if self._kept or self._rejected:
            raise ValueError("records were counted before those of the killed run were restored")
        self._kept = Counter({source: entry["kept"] for source, entry in counts.items()})
        self._rejected = {source: Counter(entry["rejected"]) for source, entry in counts.items()}
        self._restored = frozenset(counts)
        self._opened = True

    def counts(self) -> dict[str, dict[str, Any]]:
        """Source → `{"in", "kept", "rejected": {reason: n}}`."""
        found: dict[str, dict[str, Any]] = {}
        for name in sorted(self._kept.keys() | self._rejected.keys()):
            rejected = dict(sorted(self._rejected.get(name, {}).items()))
            kept = self._kept[name]
            found[name] = {"in": kept + sum(rejected.values()), "kept": kept, "rejected": rejected}
        return found


def _text(record: Any) -> str:
    try:
        text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError, TypeError):  # nested too deeply, or not JSON at all
        text = f"a record that cannot be written as JSON, with {len(record)} fields"
    return text[:MAX_CHARACTERS]
