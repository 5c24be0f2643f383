"""Names that have been taken, in a memory that does not grow with their number."""

from __future__ import annotations

from hashlib import blake2b

_BITS, _PROBES = 27, 4


class SeenNames:
    """A Bloom filter of 16 MiB: a name that was added is always known again; of ten million new ones about one in 250
    is taken for a known one."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_BITS - 3))

    def add(self, name: str) -> bool:
        """Adds a name; whether it may have been there."""
        digest = blake2b(name.encode(), digest_size=4 * _PROBES).digest()
        known = True
        for i in range(0, len(digest), 4):
            at = int.from_bytes(digest[i : i + 4], "little") & ((1 << _BITS) - 1)
            byte, bit = at >> 3, 1 << (at & 7)
            known = known and bool(self._bits[byte] & bit)
            self._bits[byte] |= bit
        return known

    def unique(self, name: str, number: int) -> str:
        """The name if it is new, else with a suffix. `number`: that of the record that bears it."""
        found, again = name, 0
        while self.add(found):
            found = f"{name}#{number}" + f".{again}" * bool(again)
            again += 1
        return found
