"""Record counts per source, in which `in` equals `kept` plus all rejected records, which are counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet as pq

from thinkling.data.documents import RejectedWriter
from thinkling.data.readers import readable


class Ledger(RejectedWriter):
    """Writes rejected.parquet and counts every record by source, as kept or by the reason for its rejection."""

    def __init__(self, path: Path, max_characters: int) -> None:
        super().__init__(path, max_characters)
        self.received: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()
        self.rejected: dict[str, Counter[str]] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def write(self, document: Mapping[str, Any], reason: str, detail: str = "") -> None:
        """Writes and counts a rejected record."""
        super().write(document, reason, detail)
        self.rejected.setdefault(document["source"], Counter())[reason] += 1

    def restore(self, path: Path, counts: Mapping[str, Any]) -> None:
        """Restores the records that an earlier step rejected. `path`: the earlier step's rejected.parquet. `counts`:
        the `state` of the earlier step's ledger."""
        self.received = Counter(counts["received"])
        self.rejected = {source: Counter(reasons) for source, reasons in counts["rejected"].items()}
        with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    super().write(row, row["reason"], row["detail"] or "")

    def state(self) -> dict[str, Any]:
        """Returns the counts in the form that `restore` accepts."""
        return {"received": dict(self.received), "rejected": {name: dict(n) for name, n in self.rejected.items()}}

    def keep(self, document: Mapping[str, Any]) -> None:
        """Counts a kept record."""
        self.kept[document["source"]] += 1
        self.characters[document["source"]] += len(document["text"])

    def counts(self) -> dict[str, Any]:
        """Returns ``{"in", "kept", "rejected": {reason: n}, "sources": {source: counts}}``. The counts of a source also
        include ``characters``, the number of characters kept.

        Raises RuntimeError if the number of received records differs from the number of kept and rejected records.
        """
        sources = {name: self._of(name) for name in sorted(self.received)}
        total = sum((self.rejected.get(name, Counter()) for name in sources), Counter())
        return {
            "in": sum(entry["in"] for entry in sources.values()),
            "kept": sum(entry["kept"] for entry in sources.values()),
            "rejected": dict(sorted(total.items())),
            "sources": sources,
        }

    def _of(self, source: str) -> dict[str, Any]:
        received, kept, rejected = self.received[source], self.kept[source], self.rejected.get(source, Counter())
        if received != kept + rejected.total():
            raise RuntimeError(f"{source}: {received} in, but {kept} kept + {rejected.total()} rejected")
        return {
            "in": received,
            "kept": kept,
            "rejected": dict(sorted(rejected.items())),
            "characters": self.characters[source],
        }
