"""Computes 64-bit hashes of runs of consecutive words or characters, for deduplication and decontamination."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINALISER = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # splitmix64's
_MAX_REMEMBERED = 1_000_000


class WordHasher:
    """Maps words to 64 bits of BLAKE2b, with a cache. Hashes are identical on every machine and in every run."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, words: Sequence[str]) -> Hashes:
        """Returns one hash per word, in order."""
        if len(self._known) > _MAX_REMEMBERED:
            self._known.clear()
        known = self._known
        for word in set(words).difference(known):
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))


def windows(hashes: Hashes, size: int) -> Hashes:
    """Returns one order-sensitive hash per run of `size` words; empty if there are fewer than `size` words."""
    n = len(hashes) - size + 1
    if n <= 0:
        return np.empty(0, np.uint64)
    combined = np.zeros(n, np.uint64)
    for i in range(size):  # deliberately wraps around at 2^64
        combined = combined * _MULTIPLIER + hashes[i : i + n]
    return _mixed(combined)


def lengths_of(weights: npt.NDArray[np.int64], weight: int) -> npt.NDArray[np.int64]:
    """Returns, for each position, the length of the shortest run from this position that reaches `weight`.

    The length is 0 if no run from this position reaches `weight`.
    """
    ends = np.concatenate(([0], np.cumsum(weights)))
    last = np.searchsorted(ends, ends[:-1] + weight)
    return np.where(last < len(ends), last - np.arange(len(weights)), 0)


def runs(hashes: Hashes, lengths: npt.NDArray[np.int64]) -> Hashes:
    """Returns the hash of the run at each position, or 0 for a run of length 0.

    The hash of a run equals the result of `windows` for the same size.
    """
    found, combined = np.zeros(len(hashes), np.uint64), np.zeros(len(hashes), np.uint64)
    for i in range(int(lengths.max(initial=0))):
        n = len(hashes) - i
        combined[:n] = combined[:n] * _MULTIPLIER + hashes[i:]
        ended = lengths == i + 1
        found[ended] = _mixed(combined[ended])
    return found


def _mixed(values: Hashes) -> Hashes:
    """Applies the finaliser of splitmix64, which spreads differences in a few bits over all bits."""
    first, second = _FINALISER
    values = (values ^ (values >> np.uint64(30))) * first
    values = (values ^ (values >> np.uint64(27))) * second
    return cast(Hashes, values ^ (values >> np.uint64(31)))
