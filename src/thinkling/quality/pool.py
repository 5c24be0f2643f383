"""The documents to be graded, in a Parquet file that is read several times, so that the texts need not fit in memory;
about a hundred bytes are kept per document."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thinkling.data.documents import Document, read_documents
from thinkling.data.truth import Matter, Truth
from thinkling.quality.annotator import Example
from thinkling.quality.retrieval import terms_of
from thinkling.quality.surface import excerpt

_BATCH = 512


@dataclass(frozen=True)
class Origin:
    """Where documents come from, and what is known about them beyond their text."""

    name: str
    """Name of the source in the recipe."""
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Record id → what the source knows about the record: for annotators, never for features."""


@dataclass(frozen=True)
class Pool:
    """Documents in order, with what is known about them besides their text."""

    path: Path
    origins: Mapping[str, Origin]
    """A document's `source` → its origin."""
    ids: Sequence[str]
    sources: Sequence[str]
    bytes_N: npt.NDArray[np.int64]
    """UTF-8 bytes per document."""
    frequencies: Mapping[str, int]
    """Word → number of documents that contain it."""

    @classmethod
    def survey(cls, path: Path, origins: Mapping[str, Origin], words: bool = True) -> Pool:
        """Reads all documents once. `words`: whether to count words, which only `measure_pool` needs."""
        ids, sources, sizes, frequencies = [], [], [], Counter[str]()
        for document in read_documents(path):
            ids.append(document["id"])
            sources.append(document["source"])
            sizes.append(len(document["text"].encode()))
            if words:
                frequencies.update(set(terms_of(excerpt(document["text"]))))
        return cls(path, origins, ids, sources, np.array(sizes, np.int64), frequencies)

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> list[str]:
        """The recipe's source name for each document, including documents that a source emits under a separate name."""
        return [self.origins[source].name for source in self.sources]

    def by_hash(self, salt: str) -> dict[str, list[int]]:
        """Source name in the recipe → its documents, in an order that depends on their ids and the salt only."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.names()):
            found.setdefault(name, []).append(row)
        keys = [hashlib.sha256(f"{salt}\x1f{identity}".encode()).digest() for identity in self.ids]
        return {name: sorted(rows, key=keys.__getitem__) for name, rows in found.items()}

    def texts(self, rows: Iterable[int]) -> dict[int, str]:
        """Row → text, for some rows, in order."""
        wanted = set(rows)
        return {row: document["text"] for row, document in enumerate(read_documents(self.path)) if row in wanted}

    def batches(self) -> Iterator[list[Document]]:
        """All documents, a few hundred at a time."""
        batch: list[Document] = []
        for document in read_documents(self.path):
            batch.append(document)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def example(self, row: int, text: str) -> Example:
        """A document as an example to annotate."""
        source = self.sources[row]
        origin = self.origins[source]
        return Example(text, origin.matter, origin.truths.get(self.ids[row].removeprefix(f"{source}/")))


def spread(groups: Mapping[str, Sequence[int]], n: int) -> list[int]:
    """n members in total, sorted: the first of each group, equally many per group; groups that are too small leave
    their remainder to the others."""
    chosen: list[int] = []
    for position, name in enumerate(sorted(groups, key=lambda name: (len(groups[name]), name))):
        chosen += groups[name][: (n - len(chosen)) // (len(groups) - position)]
    return sorted(chosen)
