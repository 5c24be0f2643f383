"""Near deduplication: keeps the first of the documents that share most of their word runs.

MinHash signatures (Broder 1997; computed by rensa) in bands find candidates; a candidate counts only if the *exact*
Jaccard similarity of the two sets of runs reaches the threshold; union-find joins matches into clusters. The signatures
therefore decide what is compared, never what is dropped, and clusters do not depend on the order of the documents.

Documents shorter than `min_words` are left to exact deduplication: one changed word is a large part of such a text, and
in short checkable problems every symbol matters.

In text written without spaces (`scripts`), each character counts as a word: a run is 5 characters of Chinese or
Japanese, about three words, or 10 of Thai, Lao, Khmer or Burmese, where two characters count as one. Full-width and
half-width forms are equal (NFKC). A mixed text has runs over both, in text order. Such short runs still distinguish
texts, since a similarity of 0.8 requires four of five to be shared; longer runs would amplify changes: one changed
character affects 5 runs, just like one changed word.

With runs of 5 words, 8 changed words of 490 leave a similarity of at least 0.848, which 20 bands of 6 detect with
probability 1 − (1 − 0.848⁶)²⁰ = 0.9999; at similarity 0.3 they compare one pair in 70.
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

_WORD = re.compile(r"\w(?:\S*\w)?")
"""Text between white space, without punctuation at its ends, so that one changed word is one changed token."""
_HASHES_PER_BATCH = 2_000_000
_SEED = 1


@dataclass(frozen=True)
class NearDuplicates:
    """Defines what counts as a near duplicate."""

    threshold: float = 0.8
    """Jaccard similarity of the sets of word runs at which two documents count as duplicates."""
    run: int = 5
    """Words per run, or characters in scripts without spaces."""
    min_words: int = 50
    """Documents with fewer words (or characters in such scripts) are left to exact deduplication."""
    bands: int = 20
    rows: int = 6
    """Hash values per band; a signature has bands · rows values."""


class UnionFind:
    """Disjoint sets over 0 … n−1; the representative of a set is its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, i: int) -> int:
        """The representative of i's set."""
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def union(self, i: int, j: int) -> None:
        """Merges the sets of i and j."""
        low, high = sorted((self.find(i), self.find(j)))
        self._parent[high] = low

    def representatives(self) -> list[int]:
        """`find` of every element."""
        return [self.find(i) for i in range(len(self._parent))]


def word_runs(text: str, size: int, hasher: WordHasher, min_words: int = 0) -> Hashes:
    """The distinct runs of `size` words in a text, as sorted hashes; none if it has fewer than `min_words` words. In
    scripts without spaces a character counts as a word, or half a word."""
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
    """|a ∩ b| / |a ∪ b| of two sorted arrays of distinct values; 0 if both are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    total = len(a) + len(b) - common
    return common / total if total else 0.0


def clusters(texts: Iterable[str], settings: NearDuplicates) -> list[int]:
    """For each text, the position of the first text in its cluster: its own if it has no earlier near duplicate.

    Memory: 8 bytes per word, and about 2 KB per text of at least `min_words`. Raises UserError if rensa is missing.
    """
    sets = list(_sets(texts, settings))
    joined = UnionFind(len(sets))
    for bucket in _buckets(sets, settings):
        _join(bucket, sets, joined, settings.threshold)
    return joined.representatives()


def near_unique(
    documents: Iterable[Document], first: list[int], ids: list[str], counts: Counts, rejected: RejectedWriter
) -> Iterator[Document]:
    """Yields the first document of each cluster; the others go to `rejected` with the first one's id.

    `first`: the result of `clusters` for the same documents in the same order; `ids`: their ids.
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


def _buckets(sets: list[Hashes], settings: NearDuplicates) -> Iterator[list[int]]:
    """Positions of texts that agree in a whole band, in order, one band after another."""
    positions = np.array([i for i, one in enumerate(sets) if len(one)], np.int64)
    signatures = _signatures([sets[i] for i in positions], settings)
    for band in range(settings.bands):
        part = np.ascontiguousarray(signatures[:, band * settings.rows : (band + 1) * settings.rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * settings.rows))).ravel()
        _, inverse, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.concatenate(([0], np.cumsum(sizes)))
        for bucket in np.flatnonzero(sizes > 1):
            yield positions[order[starts[bucket] : starts[bucket + 1]]].tolist()


def _join(bucket: list[int], sets: list[Hashes], joined: UnionFind, threshold: float) -> None:
    """Joins every pair in the bucket that is similar enough; pairs that are already joined are skipped."""
    for place, i in enumerate(bucket):
        for j in bucket[:place]:
            if joined.find(i) != joined.find(j) and _similar(sets[i], sets[j], threshold):
                joined.union(i, j)


def _similar(a: Hashes, b: Hashes, threshold: float) -> bool:
    smaller, larger = sorted((len(a), len(b)))
    return smaller >= threshold * larger and jaccard(a, b) >= threshold


def _signatures(sets: list[Hashes], settings: NearDuplicates) -> npt.NDArray[np.uint32]:
    """(texts, bands · rows) MinHash values."""
    minhash = _rensa().RMinHash
    width = settings.bands * settings.rows
    blocks = [np.empty((0, width), np.uint32)]
    for batch in _batches(sets):
        offsets = np.cumsum([0, *map(len, batch)]).astype(np.uint64)
        digests = minhash.digest_matrix_from_flat_token_hashes(np.concatenate(batch), offsets, width, _SEED)
        blocks.append(np.array(digests.to_rows(), np.uint32).reshape(-1, width))
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
        raise UserError("near_dedup needs rensa: install thinkling[curate], or remove near_dedup") from error
    return rensa
