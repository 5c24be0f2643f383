"""Real kills of a real process, at moments nobody chose."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thinkling.train.checkpoint import Checkpoints
from thinkling.train.parallel import Parallel

STEPS = 40


def kill_after(command: list[str], checkpoints: Checkpoints, steps: int, delay: float) -> None:
    """Start the command; SIGKILL it `delay` seconds after its checkpoint of `steps` steps is there."""
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while True:
            latest = checkpoints.latest()
            if latest is not None and int(latest.name.removeprefix("step-")) >= steps:
                break
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run writes no checkpoints"
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw"},
        {"precision": {"compute": "bfloat16", "weights": "bfloat16"}},
        pytest.param({"optimizer": "muon"}, marks=pytest.mark.slow),
    ],
    ids=["adamw", "bfloat16", "muon"],
)
def test_a_run_killed_twice_equals_an_uninterrupted_one(
    worker: ModuleType, tmp_path: Path, options: dict[str, Any]
) -> None:
    """A checkpoint each step: most moments lie inside a write. Every later step and the final tensors must be equal."""
    job = {"steps": STEPS, "every": 1, "micro_batch_size": 8} | options
    whole = worker.run(job | {"directory": str(tmp_path / "whole"), "every": STEPS}, Parallel())

    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    print(f"seed of the kills: {seed}")
    directory = tmp_path / "killed"
    checkpoints = Checkpoints(directory, every_steps=1)
    jobs = [job | {"directory": str(directory), "out": str(tmp_path / "out.json")}]
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(jobs)]
    for steps in (draw.randint(1, 12), draw.randint(15, 28)):
        kill_after(command, checkpoints, steps, delay=draw.uniform(0.0, 0.05))
    latest = checkpoints.latest()
    assert latest is not None
    killed_at = int(latest.name.removeprefix("step-"))
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})

    rest = json.loads((tmp_path / "out.json").read_text())
    assert list(rest["curve"]) == [str(step) for step in range(killed_at, STEPS)]
    assert all(rest["curve"][step] == whole["curve"][step] for step in rest["curve"])
    assert rest["digest"] == whole["digest"]
    assert sorted(p.name for p in directory.iterdir()) == [f"step-{STEPS - 1:08d}", f"step-{STEPS:08d}"]
