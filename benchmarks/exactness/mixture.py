"""How far sources are from their targets at any step, and whether every document is seen once per epoch.

exact.mixture: over 200 random mixtures of 2-40 sources, the largest distance (in rows) of any source from its target
after any row, in exact arithmetic.
exact.epochs: over 20 random runs of three phases with different weights and row lengths, read through the loader,
documents used a different number of times than the number of epochs that the loader reports. Last line: JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import numpy as np

from thinkling.data.mixture import MixtureLoader, MixturePhase, assign
from thinkling.data.shards import MemorySource

MIXTURES, ROWS, RUNS = 200, 5000, 20


def deviation(weights: np.ndarray, n_rows: int) -> float:
    """Rows, rounded up to a double from the exact value."""
    exact = [Fraction(weight) for weight in weights.tolist()]
    total = sum(exact)
    # n · weight_i as integers over one common denominator, so that no rounding hides a deviation.
    denominator = int(np.lcm.reduce([(weight / total).denominator for weight in exact], dtype=object))
    targets = np.array([int(weight / total * denominator) for weight in exact], dtype=object)
    lag, worst = np.zeros(len(exact), dtype=object), 0
    for i in assign(exact, n_rows).tolist():
        lag += targets
        lag[i] -= denominator
        worst = max(worst, int(lag.max()), -int(lag.min()))
    return float(np.nextafter(worst / denominator, np.inf))


def random_mixture(rng: np.random.Generator) -> np.ndarray:
    """Weights of 2-40 sources, from nearly even to very uneven."""
    return rng.dirichlet(np.full(rng.integers(2, 41), 10 ** rng.uniform(-1, 1))) + 1e-9


def documents_off(rng: np.random.Generator, seed: int) -> int:
    """Documents of a random run that were seen more or less often than the number of epochs."""
    names = [f"source{i}" for i in range(rng.integers(2, 7))]
    sources = {
        name: MemorySource(
            name, [np.full(n, 1000 * k + i) for i, n in enumerate(rng.integers(1, 90, rng.integers(5, 60)))]
        )
        for k, name in enumerate(names)
    }
    phases = [
        MixturePhase(
            40 * 8,
            int(rng.choice([16, 32, 64, 128])),
            dict(zip(names, rng.dirichlet(np.ones(len(names))), strict=True)),
        )
        for _ in range(3)
    ]
    run = MixtureLoader(phases, sources, seed, batch_size=8, micro_batch_size=4)
    tokens = np.concatenate([b.tokens_BT[r, : sum(n)] for step in run for b in step for r, n in enumerate(b.lengths)])
    seen = Counter(tokens.tolist())
    off = 0
    for k, (name, used) in enumerate(run.usage().items()):
        uses = np.array([seen[1000 * k + i] / n for i, n in enumerate(sources[name].lengths.tolist())])
        # In the unfinished epoch a document may or may not have been seen; the total must match the reported one.
        whole = int(used["epochs"])
        off += int(((uses < whole) | (uses > whole + 1)).sum())
        off += round(abs(float(uses.sum()) - used["epochs"] * len(uses)))
    return off


def main() -> None:
    rng = np.random.default_rng(6)
    deviations = [deviation(random_mixture(rng), ROWS) for _ in range(MIXTURES)]
    off = [documents_off(rng, seed) for seed in range(RUNS)]
    print(f"{MIXTURES} mixtures of 2-40 sources, {ROWS} rows each: largest deviation {max(deviations):.4f} rows")
    print(f"{RUNS} runs of three phases: {sum(off)} documents off their epochs")
    measurements = {
        "exact.mixture": {"value": max(deviations), "n": MIXTURES, "runs": deviations, "unit": "rows"},
        "exact.epochs": {"value": sum(off), "n": RUNS, "runs": off, "unit": "documents"},
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
