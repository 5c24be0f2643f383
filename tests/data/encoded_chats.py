"""Encoded conversations for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thinkling.data.encoded import EncodedConversations, EncodedWriter

Items = Sequence[tuple[np.ndarray, np.ndarray]]


def items(lengths: Sequence[int]) -> Items:
    """Conversations of these lengths: every token of conversation i is i, with loss from the third on."""
    return [(np.full(length, i, dtype=np.int32), np.arange(length) >= 2) for i, length in enumerate(lengths)]


def encoded(directory: Path, groups: Mapping[str, Items]) -> EncodedConversations:
    """Written and opened again."""
    with EncodedWriter(directory) as writer:
        for name, conversations in groups.items():
            writer.begin(name)
            for ids, loss in conversations:
                writer.add(ids, loss)
    return EncodedConversations(directory)
