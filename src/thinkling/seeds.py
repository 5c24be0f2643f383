"""Seeds of random streams. Every stream has names, and its seed is a hash of the recipe's seed and these names."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_FEISTEL_ROUNDS = 6


def derive(seed: int, *names: str | int) -> int:
    """Derive the seed of a named stream: the first 63 bits of the SHA-256 digest of the seed and the names. The result
    is the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def permutation(n: int, seed: int) -> np.ndarray:
    """Return a permutation of 0 … n-1, int64 (n,), drawn from a 64-bit seed.

    The permutation is the argsort of raw words of Philox, because NEP 19 guarantees the bit stream of a generator
    across numpy versions, but not the result of a shuffle.
    """
    import numpy as np  # Imported here because configs import this module and must not load heavy modules.

    return np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")


def permuted(places: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the items at the given places of a permutation of 0 … n-1, int64, one per place. The permutation itself is
    never materialised.

    The permutation is a Feistel network over the next power of four, iterated until the result is below n (cycle
    walking).
    """
    import numpy as np

    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(derive(seed, "round", number)) for number in range(_FEISTEL_ROUNDS)]
    items = places.astype(np.uint64)
    outside = np.arange(len(items))
    while len(outside):
        left, right = items[outside] >> half, items[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        items[outside] = (left << half) | right
        outside = outside[items[outside] >= n]
    return items.astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Apply the finalizer of SplitMix64, in which each bit of the result depends on every bit of x. The arithmetic is
    in uint64, which wraps around."""
    import numpy as np

    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
