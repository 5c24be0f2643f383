"""Tracks names that are taken, in memory that does not grow with their number."""

from __future__ import annotations

from hashlib import blake2b

_BITS, _PROBES = 27, 4


class SeenNames:
    """A Bloom filter of 16 MiB: an added name is always recognised; after ten million names about one new name in 250
    is mistaken for a known one."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_BITS - 3))

    def add(self, name: str) -> bool:
        """Adds a name; returns whether it may have been there already."""
        digest = blake2b(name.encode(), digest_size=4 * _PROBES).digest()
        known = True
        for i in range(0, len(digest), 4):
            at = int.from_bytes(digest[i : i + 4], "little") & ((1 << _BITS) - 1)
            byte, bit = at >> 3, 1 << (at & 7)
            known = known and bool(self._bits[byte] & bit)
            self._bits[byte] |= bit
        return known

    def unique(self, name: str, number: int) -> str:
        """The name if it is new, else the name with a suffix. `number`: that of the record with this name."""
        found, again = name, 0
        while self.add(found):
            found = f"{name}#{number}" + f".{again}" * bool(again)
            again += 1
        return found
