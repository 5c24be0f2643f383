"""Every random stream is named: a seed is a hash of the recipe's seed and the names of what draws from it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Seed of a named stream: the first 63 bits of SHA-256 over the seed and the names, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def permutation(n: int, seed: int) -> np.ndarray:
    """Permutation of 0 … n-1, int64 (n,), drawn from a 64-bit seed.

    Sorted raw words of Philox: NEP 19 fixes bit streams for all versions of numpy, but no shuffles.
    """
    import numpy as np  # Here, since configs import this module and load nothing heavy.

    return np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")
