"""The documents to be graded, stored in a Parquet file that is read several times so that the texts need not fit in
memory. About a hundred bytes per document stay in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thinkling.data.documents import Document, number_of_documents, read_documents
from thinkling.data.truth import Matter, Truth
from thinkling.progress import Progress, Silent, tracked
from thinkling.quality.annotator import Example
from thinkling.quality.retrieval import terms_of
from thinkling.quality.surface import excerpt

_BATCH = 512


@dataclass(frozen=True)
class Origin:
    """The source of documents, and metadata about them beyond their text."""

    name: str
    """Name of the source in the recipe."""
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Record id → ground truth that the source provides. Used by annotators, never by features."""


@dataclass(frozen=True)
class Pool:
    """Documents in order, with their metadata."""

    path: Path
    origins: Mapping[str, Origin]
    """A document's `source` → its origin."""
    ids: Sequence[str]
    sources: Sequence[str]
    bytes_N: npt.NDArray[np.int64]
    """Size of each document in UTF-8 bytes."""
    frequencies: Mapping[str, int]
    """Word → number of documents that contain it."""

    @classmethod
    def survey(
        cls, path: Path, origins: Mapping[str, Origin], words: bool = True, progress: Progress | None = None
    ) -> Pool:
        """Read all documents once to collect the metadata. `words`: whether to count words; only `measure_pool` needs
        them."""
        ids, sources, sizes, frequencies = [], [], [], Counter[str]()
        n = number_of_documents(path)
        for document in tracked(read_documents(path), progress or Silent(), "survey", n, "documents"):
            ids.append(document["id"])
            sources.append(document["source"])
            sizes.append(len(document["text"].encode()))
            if words:
                frequencies.update(set(terms_of(excerpt(document["text"]))))
        return cls(path, origins, ids, sources, np.array(sizes, np.int64), frequencies)

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> list[str]:
        """Name of each document's source in the recipe, even if the source emits the document under a separate name."""
        return [self.origins[source].name for source in self.sources]

    def by_hash(self, salt: str) -> dict[str, list[int]]:
        """Return a mapping from source names in the recipe to the rows of the sources' documents, in an order that
        depends only on the documents' ids and the salt."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.names()):
            found.setdefault(name, []).append(row)
        keys = [hashlib.sha256(f"{salt}\x1f{identity}".encode()).digest() for identity in self.ids]
        return {name: sorted(rows, key=keys.__getitem__) for name, rows in found.items()}

    def texts(self, rows: Iterable[int]) -> dict[int, str]:
        """Return a mapping from the given rows, in ascending order, to their texts."""
        wanted = set(rows)
        return {row: document["text"] for row, document in enumerate(read_documents(self.path)) if row in wanted}

    def batches(self) -> Iterator[list[Document]]:
        """Iterate over all documents in batches of a few hundred."""
        batch: list[Document] = []
        for document in read_documents(self.path):
            batch.append(document)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def example(self, row: int, text: str) -> Example:
        """Return a document as an example to annotate."""
        source = self.sources[row]
        origin = self.origins[source]
        return Example(text, origin.matter, origin.truths.get(self.ids[row].removeprefix(f"{source}/")))


def spread(groups: Mapping[str, Sequence[int]], n: int) -> list[int]:
    """Choose n members in total, the same number from the start of each group, and return the members sorted. A group
    that is too small contributes all its members, and the other groups make up the difference."""
    chosen: list[int] = []
    for position, name in enumerate(sorted(groups, key=lambda name: (len(groups[name]), name))):
        chosen += groups[name][: (n - len(chosen)) // (len(groups) - position)]
    return sorted(chosen)
