"""Predicts the padding of pre-training rows from the lengths of the documents, before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from thinkling.data.best_fit import BestFitRows
from thinkling.data.packing import START, Cursor, SourceRows
from thinkling.data.shards import open_sources
from thinkling.stages.pretrain.phases import Phase

_ROWS = 4096
"""Maximum number of rows that are packed per source and phase."""
_DOCUMENTS = 1_000_000
"""Maximum number of documents per source. From a larger source, every k-th document is used."""


class Lengths:
    """The lengths of a source's documents, without their tokens (`packing.DocumentLengths`)."""

    def __init__(self, name: str, lengths: np.ndarray) -> None:
        self.name = name
        self.lengths = lengths
        self.n_documents = len(lengths)


def source_lengths(shards: Path) -> dict[str, Lengths]:
    """Returns the lengths of the documents in the shards of a tokens artifact."""
    return {
        name: Lengths(name, source.lengths[:: -(-source.n_documents // _DOCUMENTS)])
        for name, source in open_sources(shards).items()
    }


def predicted_waste(phases: Sequence[Phase], lengths: Mapping[str, Lengths], seed: int) -> list[dict[str, float]]:
    """Returns the fraction of padding in each source's rows, per phase.

    At most 4,096 rows per source and phase are packed. If no phase has more, the fractions are those of training with
    this seed, up to one row per source and phase.
    """
    cursors: dict[str, Cursor] = {}
    found: list[dict[str, float]] = []
    for phase in phases:
        found.append({})
        for name, fraction in phase.fractions.items():
            if name in lengths:
                packed = BestFitRows if phase.packing == "best_fit" else SourceRows
                rows = packed(lengths[name], seed, phase.sequence_length, cursors.get(name, START))
                n_rows = min(max(round(phase.rows * Fraction(fraction)), 1), _ROWS)
                found[-1][name] = 1 - rows.tokens(n_rows) / (n_rows * phase.sequence_length)
                cursors[name] = rows.cursor_after(n_rows)
    return found
