"""The pre-split of puzzle recipes."""

from __future__ import annotations

ISOLATE = r"[0-9A-Z]| ?[a-z_]+|\n+|[ \t]+(?=\S)|[^\sA-Za-z0-9_]+|\s+"


def puzzles(digits: str | None) -> str:
    """Every digit and every capital letter A-Z is a piece of its own: BPE would merge the letters of puzzle strings,
    and a model of this size only learns to copy symbols that are one token each."""
    if digits is not None:
        raise ValueError("digits: the pre-split puzzles already splits every digit; remove the field")
    return ISOLATE
