"""A5b, A5c: the loss curve of two FSDP2 ranks (gloo) against one process, and the stored 20-step curves.

    python -m benchmarks.a5_curves

Values are the largest deviation of a loss, as a share of the largest loss of the curve (A5b) and of the loss (A5c).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch

TESTS = Path(__file__).parents[1] / "tests" / "train"
STEPS = 10


def load(name: str) -> ModuleType:
    """A module of the trainer's tests, which own the runs that are compared."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def two_ranks_against_one() -> list[float]:
    """Deviation of each step's loss, as a share of the largest."""
    from thinkling.train.parallel import Parallel

    worker, ranks = load("worker"), load("test_parallel")
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
    """Relative deviation of each step's loss, both optimizers."""
    worker, golden = load("worker"), load("test_golden")
    found = []
    for name in golden.OPTIMIZERS:
        stored = json.loads((TESTS / f"golden_{name}.json").read_text())["loss"]
        now = golden.curve(worker, name)["loss"]
        found += [abs(a - b) / abs(b) for a, b in zip(now, stored, strict=True)]
    return found


def main() -> None:
    torch.set_num_threads(1)
    measurements = {}
    for claim, deviations in (("A5b", two_ranks_against_one()), ("A5c", against_golden())):
        measurements[claim] = {
            "value": max(deviations), "n": len(deviations), "runs": deviations, "unit": "relative", "threads": 1,
        }  # fmt: skip
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
