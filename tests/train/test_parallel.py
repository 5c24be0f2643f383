import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from thinkling.train import parallel
from thinkling.train.parallel import Parallel

STEPS = 10
Curve = dict[str, list[float]]


def two_ranks(jobs: list[dict[str, Any]]) -> None:
    """Run the jobs in two processes with torchrun's environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Ranks on CPUs, also where there is a GPU: two of them on one card would wait for each other.
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(jobs)]
    processes = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def assert_equal_curves(curve: Curve, reference: Curve, steps: range) -> None:
    """Losses and gradient norms to 1e-5 of the largest; token and row counts exactly."""
    assert sorted(map(int, curve)) == list(steps)
    for column in (0, 1):
        largest = max(abs(reference[str(step)][column]) for step in steps)
        assert max(abs(curve[str(s)][column] - reference[str(s)][column]) for s in steps) <= 1e-5 * largest
    assert [curve[str(s)][2:] for s in steps] == [reference[str(s)][2:] for s in steps]


def test_two_ranks_equal_one_and_share_checkpoints(worker: ModuleType, tmp_path: Path) -> None:
    """FSDP2 on gloo, two micro-batches a rank, unequal loss tokens a rank; checkpoints from 1 to 2 ranks and back."""

    def loss_tokens(step: int, rank: int) -> int:
        return sum(int((labels != -100).sum()) for _, labels, _ in worker.micro_batches(step, 2, rank, 2))

    assert all(loss_tokens(step, 0) != loss_tokens(step, 1) for step in range(3))
    alone = Parallel()

    def job(name: str, **options: Any) -> dict[str, Any]:
        out = {"directory": str(tmp_path / name), "out": str(tmp_path / f"{name}.json")}
        return out | {"steps": STEPS, "every": 5, "micro_batch_size": 8} | options

    reference = worker.run(job("tied"), alone)
    untied = worker.run(job("untied", tied=False), alone)
    shutil.copytree(tmp_path / "untied" / "step-00000005", tmp_path / "handed" / "step-00000005")

    jobs = [job("sharded", micro_batch_size=2), job("handed", micro_batch_size=2, tied=False, seed=3)]
    two_ranks(jobs)
    sharded, handed = (json.loads(Path(j["out"]).read_text()) for j in jobs)
    assert_equal_curves(sharded["curve"], reference["curve"], range(STEPS))
    assert_equal_curves(handed["curve"], untied["curve"], range(5, STEPS))

    # One process reads what two wrote: all of it, to the bit, …
    assert len(list((tmp_path / "sharded" / "step-00000010").glob("*.safetensors"))) == 2
    assert worker.run(job("sharded", seed=3), alone) == {"curve": {}, "digest": sharded["digest"]}
    # … and goes on from the middle.
    shutil.rmtree(tmp_path / "sharded" / "step-00000010")
    assert_equal_curves(worker.run(job("sharded", seed=3), alone)["curve"], reference["curve"], range(5, STEPS))


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_two_ranks_equal_one_in_bfloat16(worker: ModuleType, tmp_path: Path, weights: str) -> None:
    """Two micro-batches a rank. Losses agree as far as bf16 goes: 8 bits, and other random numbers in rounding."""
    job = {"steps": STEPS, "every": STEPS, "precision": {"compute": "bfloat16", "weights": weights}}
    alone = job | {"micro_batch_size": 8, "directory": str(tmp_path / "alone")}
    sharded = job | {"micro_batch_size": 2, "directory": str(tmp_path / "two"), "out": str(tmp_path / "two.json")}
    reference = worker.run(alone, Parallel())["curve"]
    dry = sharded | {"dry_run": True, "directory": str(tmp_path / "dry"), "out": str(tmp_path / "dry.json")}
    two_ranks([sharded, dry])
    found = json.loads((tmp_path / "two.json").read_text())
    assert json.loads((tmp_path / "dry.json").read_text()) == found  # a dry-run step changes nothing
    curve = found["curve"]
    assert len(curve) == STEPS
    for step, (loss, norm, *counts) in curve.items():
        assert counts == reference[step][2:]
        assert loss == pytest.approx(reference[step][0], rel=0.01)
        assert norm == pytest.approx(reference[step][1], rel=0.05)
    # Any number of ranks reads what two wrote, bf16 state included.
    assert worker.run(sharded | {"micro_batch_size": 8, "seed": 3}, Parallel())["curve"] == {}


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    place = parallel.setup()
    assert (place.rank, place.world_size) == (0, 1)
    assert not torch.distributed.is_initialized()
    x = torch.ones(2, device=place.device)
    assert place.all_reduce_sum(x) is x
    place.barrier()
    parallel.close()


def test_layers_are_the_members_of_module_lists(worker: ModuleType) -> None:
    model = worker.decoder()
    assert parallel.layers(model) == list(model.model.layers)


def test_offload_of_sharded_state_changes_nothing(tmp_path: Path) -> None:
    """FSDP2 on gloo with the optimizer state in host memory: losses, state and every byte of the checkpoints."""

    def job(name: str, **options: Any) -> dict[str, Any]:
        out = {"directory": str(tmp_path / name), "out": str(tmp_path / f"{name}.json")}
        return out | {"steps": 4, "every": 2, "micro_batch_size": 2, "tied": False} | options

    precisions: dict[str, dict[str, str]] = {"fp32": {}, "bf16": {"compute": "bfloat16", "weights": "bfloat16"}}
    pairs = {
        name: [job(f"{name}-{place}", precision=precision, offload=place == "host") for place in ("device", "host")]
        for name, precision in precisions.items()
    }
    two_ranks([one for pair in pairs.values() for one in pair])
    for pair in pairs.values():
        device, host = (json.loads(Path(one["out"]).read_text()) for one in pair)
        assert device == host
        files = [
            {file.relative_to(one["directory"]): file.read_bytes() for file in Path(one["directory"]).rglob("*.*")}
            for one in pair
        ]
        assert len(files[0]) >= 2 * 3
        assert files[0] == files[1]
