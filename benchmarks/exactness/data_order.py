"""Rows that differ between world sizes 1, 2, 4, prefetch depths 0, 1, 3 and torch DataLoader workers 0, 1, 3.

A run of three phases over four random sources. The reference is one rank without prefetching that reads every step in
order. Every other way of reading is compared with it row by row: tokens, labels and document lengths. Last line: JSON.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
from torch.utils.data import DataLoader

from thinkling.data.mixture import MixtureLoader, MixturePhase
from thinkling.data.packing import PackedBatch
from thinkling.data.prefetch import Prefetcher
from thinkling.data.shards import MemorySource

PHASES = [
    MixturePhase(160, 128, {"code": 0.4, "docs": 0.3, "puzzles": 0.2, "noise": 0.1}),
    MixturePhase(160, 128, {"docs": 1 / 3, "puzzles": 2 / 3}),
    MixturePhase(80, 256, {"code": 0.1, "docs": 0.2, "puzzles": 0.7}, batch_size=8),
]


def loader(rank: int = 0, world_size: int = 1, micro_batch_size: int = 2) -> MixtureLoader:
    rng = np.random.default_rng(5)
    sources = {
        name: MemorySource(name, [rng.integers(0, 1024, n) for n in rng.integers(1, longest, 300)])
        for name, longest in (("code", 600), ("docs", 200), ("puzzles", 40), ("noise", 60))
    }
    return MixtureLoader(PHASES, sources, 17, 16, rank, world_size, micro_batch_size)


def rows_of(batches: list[PackedBatch]) -> list[tuple[bytes, bytes, tuple[int, ...]]]:
    return [
        (b.tokens_BT[r].tobytes(), b.labels_BT[r].tobytes(), b.lengths[r])
        for b in batches
        for r in range(len(b.lengths))
    ]


def main() -> None:
    reference = loader(micro_batch_size=16)
    expected = [rows_of(batches) for batches in reference]
    n_rows = sum(map(len, expected))
    differing: dict[str, int] = {}

    def compare(way: str, found: list[list]) -> None:
        pairs = zip([r for step in expected for r in step], [r for step in found for r in step], strict=True)
        differing[way] = sum(a != b for a, b in pairs)

    for world_size in (1, 2, 4):
        for depth in (0, 1, 3):
            ranks = [loader(rank, world_size) for rank in range(world_size)]
            readers = [Prefetcher(rank.batches, rank.n_steps, depth, workers=max(depth, 1)) for rank in ranks]
            steps = range(reference.n_steps)
            compare(
                f"world {world_size}, prefetch {depth}",
                [[r for read in readers for r in rows_of(read(s))] for s in steps],
            )
            for reader in readers:
                reader.__exit__()
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores, on purpose
    for workers in (0, 1, 3):
        torch_loader = DataLoader(loader(), batch_size=None, num_workers=workers, collate_fn=list)  # type: ignore[arg-type]
        compare(f"DataLoader workers {workers}", [rows_of(batches) for batches in torch_loader])
    for way, count in differing.items():
        print(f"{way}: {count} of {n_rows} rows differ")
    value = {"value": sum(differing.values()), "n": n_rows, "runs": list(differing.values()), "unit": "rows"}
    print(json.dumps({"measurements": {"exact.data-order": value}}))


if __name__ == "__main__":
    main()
