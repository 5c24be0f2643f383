"""The loss curve of two FSDP2 ranks (gloo) against one process, and the stored 20-step curves.

    python -m benchmarks.exactness.loss_curves

The values are the largest deviation of a step's loss, relative to the largest loss of the curve (exact.two-ranks) or to
the loss itself (exact.golden-curve).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from benchmarks.machine import ROOT
from benchmarks.modules import load

TESTS = ROOT / "tests" / "train"
STEPS = 10


def two_ranks_against_one() -> list[float]:
    """Deviation of each step's loss, as a fraction of the largest loss."""
    from thinkling.train.parallel import Parallel

    worker, ranks = load(TESTS / "worker.py"), load(TESTS / "test_parallel.py")
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            name: {"directory": f"{folder}/{name}", "out": f"{folder}/{name}.json", "steps": STEPS, "every": 5}
            for name in ("one", "two")
        }
        one = worker.run(jobs["one"] | {"micro_batch_size": 8}, Parallel())["curve"]
        ranks.two_ranks([jobs["two"] | {"micro_batch_size": 2}])
        two = json.loads(Path(jobs["two"]["out"]).read_text())["curve"]
    largest = max(abs(values[0]) for values in one.values())
    return [abs(two[str(step)][0] - one[str(step)][0]) / largest for step in range(STEPS)]


def against_golden() -> list[float]:
    """Relative deviation of each step's loss, for both optimizers."""
    worker, golden = load(TESTS / "worker.py"), load(TESTS / "test_golden.py")
    found = []
    for name in golden.OPTIMIZERS:
        stored = json.loads((TESTS / f"golden_{name}.json").read_text())["loss"]
        now = golden.curve(worker, name)["loss"]
        found += [abs(a - b) / abs(b) for a, b in zip(now, stored, strict=True)]
    return found


def main() -> None:
    torch.set_num_threads(1)
    measurements = {}
    for claim, deviations in (("exact.two-ranks", two_ranks_against_one()), ("exact.golden-curve", against_golden())):
        measurements[claim] = {
            "value": max(deviations), "n": len(deviations), "runs": deviations, "unit": "relative", "threads": 1,
        }  # fmt: skip
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
