"""Tracks names that are already in use, with a constant amount of memory."""

from __future__ import annotations

from hashlib import blake2b

_BITS, _PROBES = 27, 4


class SeenNames:
    """A Bloom filter of 16 MiB.

    A name that was added is always recognised. After ten million names, about one new name in 250 is incorrectly
    recognised as added.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_BITS - 3))

    def add(self, name: str) -> bool:
        """Adds a name and returns whether it may have been added before."""
        digest = blake2b(name.encode(), digest_size=4 * _PROBES).digest()
        known = True
        for i in range(0, len(digest), 4):
            at = int.from_bytes(digest[i : i + 4], "little") & ((1 << _BITS) - 1)
            byte, bit = at >> 3, 1 << (at & 7)
            known = known and bool(self._bits[byte] & bit)
            self._bits[byte] |= bit
        return known

    def unique(self, name: str, number: int) -> str:
        """Returns the name if it is new, otherwise the name with a suffix made from `number`, the record's number."""
        found, again = name, 0
        while self.add(found):
            found = f"{name}#{number}" + f".{again}" * bool(again)
            again += 1
        return found
