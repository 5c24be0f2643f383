"""Near deduplication: of several documents that share most of their runs of words, keeps only the first.

Banded MinHash signatures (Broder 1997; computed by rensa) determine the candidate pairs. A candidate pair is a match
only if the *exact* Jaccard similarity of the two sets of runs reaches the threshold. Union-find joins matches into
clusters. Signatures therefore determine which documents are compared, never which documents are dropped, and clusters
do not depend on the order of the documents.

Documents shorter than `min_words` are only deduplicated exactly, because one changed word is a large part of a short
text, and every symbol matters in a short checkable problem.

In text written without spaces (`scripts`), each character counts as a word. A run is 5 characters of Chinese or
Japanese, which is about three words, or 10 characters of Thai, Lao, Khmer or Burmese, where two characters count as one
word. Full-width and half-width forms are equal (NFKC). In a mixed text, a run can contain both words and characters, in
text order. Runs of 5 characters still distinguish texts, because a similarity of 0.8 requires four of five runs to be
shared. Longer runs would amplify changes, whereas one changed character now affects 5 runs, just like one changed word.

With runs of 5 words, changing 8 words of 490 leaves a similarity of at least 0.848. 20 bands of 6 values detect this
similarity with probability 1 − (1 − 0.848⁶)²⁰ = 0.9999. At a similarity of 0.3, one pair in 70 is compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkling.data import scripts
from thinkling.data.dedup import normalise
from thinkling.data.documents import Counts, Document, RejectedWriter
from thinkling.data.ngrams import Hashes, WordHasher, lengths_of, runs, windows
from thinkling.errors import UserError
from thinkling.progress import Progress, Silent, Task

_WORD = re.compile(r"\w(?:\S*\w)?")
"""Matches text between white space, without punctuation at its ends, so that one changed word is one changed token."""
_HASHES_PER_BATCH = 2_000_000
_SEED = 1


@dataclass(frozen=True)
class NearDuplicates:
    """Criteria for near duplicates."""

    threshold: float = 0.8
    """Minimum Jaccard similarity of the sets of word runs of two documents that count as duplicates."""
    run: int = 5
    """Number of words per run, or of characters in scripts without spaces."""
    min_words: int = 50
    """Minimum number of words (or characters in scripts without spaces) of a document. Shorter documents are only
    deduplicated exactly."""
    bands: int = 20
    rows: int = 6
    """Number of hash values per band. A signature has bands · rows values."""


class UnionFind:
    """Disjoint sets over 0 … n−1. The representative of a set is its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, i: int) -> int:
        """Returns the representative of the set that contains i."""
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def union(self, i: int, j: int) -> None:
        """Merges the sets that contain i and j."""
        low, high = sorted((self.find(i), self.find(j)))
        self._parent[high] = low

    def representatives(self) -> list[int]:
        """Returns the representative for every element."""
        return [self.find(i) for i in range(len(self._parent))]


def word_runs(text: str, size: int, hasher: WordHasher, min_words: int = 0) -> Hashes:
    """Returns the sorted hashes of the distinct runs of `size` words in a text.

    The result is empty if the text has fewer than `min_words` words. In scripts without spaces, a character counts as a
    word or half a word.
    """
    text = normalise(text).casefold()
    if scripts.is_unspaced(text):
        return _character_runs(text, size, hasher, min_words)
    words = _WORD.findall(text)
    if len(words) < min_words:
        return np.empty(0, np.uint64)
    return np.unique(windows(hasher(words), size))


def _character_runs(text: str, size: int, hasher: WordHasher, min_words: int) -> Hashes:
    units = scripts.words_and_characters(unicodedata.normalize("NFKC", text).casefold())
    halves = scripts.weights(units, word=2, ideographic=2, alphabetic=1)
    if halves.sum() < 2 * min_words:
        return np.empty(0, np.uint64)
    lengths = lengths_of(halves, 2 * size)
    return np.unique(runs(hasher(units), lengths)[lengths > 0])


def jaccard(a: Hashes, b: Hashes) -> float:
    """Returns |a ∩ b| / |a ∪ b| for two sorted arrays of distinct values; 0 if both arrays are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    total = len(a) + len(b) - common
    return common / total if total else 0.0


def clusters(
    texts: Iterable[str], settings: NearDuplicates, progress: Progress | None = None, label: str = "near dedup"
) -> list[int]:
    """Returns, for each text, the position of the first text in its cluster.

    For a text without an earlier near duplicate, this is its own position. `label` is the name of the progress bars.
    Memory use is 8 bytes per word, and about 2 KB per text of at least `min_words`. Raises UserError if rensa is not
    installed.
    """
    progress = progress or Silent()
    sets = list(_sets(texts, settings))
    joined = UnionFind(len(sets))
    positions = np.array([i for i, one in enumerate(sets) if len(one)], np.int64)
    with progress.track(f"{label}, signatures", len(positions), "documents") as task:
        signatures = _signatures([sets[i] for i in positions], settings, task)
    # Each document is compared once per band.
    with progress.track(f"{label}, comparison", len(positions), "documents") as task:
        for bucket in _buckets(positions, signatures, settings, task):
            _join(bucket, sets, joined, settings.threshold)
    return joined.representatives()


def near_unique(
    documents: Iterable[Document], first: list[int], ids: list[str], counts: Counts, rejected: RejectedWriter
) -> Iterator[Document]:
    """Yields the first document of each cluster.

    The other documents are written to `rejected`, with the id of the first document. `first` is the result of
    `clusters` for the same documents in the same order, and `ids` contains the documents' ids.
    """
    for position, document in enumerate(documents):
        counts.received += 1
        if first[position] != position:
            counts.reject("near duplicate")
            rejected.write(document, "near duplicate", f"of {ids[first[position]]}")
            continue
        counts.kept += 1
        yield document


def _sets(texts: Iterable[str], settings: NearDuplicates) -> Iterator[Hashes]:
    hasher = WordHasher()
    for text in texts:
        yield word_runs(text, settings.run, hasher, max(settings.min_words, settings.run))


def _buckets(
    positions: npt.NDArray[np.int64], signatures: npt.NDArray[np.uint32], settings: NearDuplicates, task: Task
) -> Iterator[list[int]]:
    """Yields, for one band after another, the ordered positions of texts with equal values in the whole band."""
    for band in range(settings.bands):
        part = np.ascontiguousarray(signatures[:, band * settings.rows : (band + 1) * settings.rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * settings.rows))).ravel()
        _, inverse, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.concatenate(([0], np.cumsum(sizes)))
        for bucket in np.flatnonzero(sizes > 1):
            yield positions[order[starts[bucket] : starts[bucket + 1]]].tolist()
            task.advance(float(sizes[bucket]) / settings.bands)
        task.advance(int((sizes == 1).sum()) / settings.bands)


def _join(bucket: list[int], sets: list[Hashes], joined: UnionFind, threshold: float) -> None:
    """Joins every pair of texts in the bucket whose similarity reaches the threshold, skipping pairs already joined."""
    for place, i in enumerate(bucket):
        for j in bucket[:place]:
            if joined.find(i) != joined.find(j) and _similar(sets[i], sets[j], threshold):
                joined.union(i, j)


def _similar(a: Hashes, b: Hashes, threshold: float) -> bool:
    smaller, larger = sorted((len(a), len(b)))
    return smaller >= threshold * larger and jaccard(a, b) >= threshold


def _signatures(sets: list[Hashes], settings: NearDuplicates, task: Task) -> npt.NDArray[np.uint32]:
    """Returns the MinHash values of all texts, with shape (texts, bands · rows)."""
    minhash = _rensa().RMinHash
    width = settings.bands * settings.rows
    blocks = [np.empty((0, width), np.uint32)]
    for batch in _batches(sets):
        offsets = np.cumsum([0, *map(len, batch)]).astype(np.uint64)
        digests = minhash.digest_matrix_from_flat_token_hashes(np.concatenate(batch), offsets, width, _SEED)
        blocks.append(np.array(digests.to_rows(), np.uint32).reshape(-1, width))
        task.advance(len(batch))
    return np.concatenate(blocks)


def _batches(sets: list[Hashes]) -> Iterator[list[Hashes]]:
    batch: list[Hashes] = []
    size = 0
    for one in sets:
        batch.append(one)
        size += len(one)
        if size >= _HASHES_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rensa() -> Any:
    try:
        import rensa
    except ImportError as error:
        raise UserError(
            "near_dedup requires rensa; run pip install 'thinkling[curate]', or remove near_dedup"
        ) from error
    return rensa
