"""Every random stream is named: a seed is a hash of the recipe's seed and the names of what draws from it."""

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Seed of a named stream: the first 63 bits of SHA-256 over the seed and the names, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
