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

from thinkling.errors import UserError
from thinkling.train import parallel
from thinkling.train.checkpoint import read_weights
from thinkling.train.config import ParallelConfig
from thinkling.train.parallel import Parallel

STEPS = 10
Curve = dict[str, list[float]]


def two_ranks(jobs: list[dict[str, Any]]) -> None:
    ranks(2, jobs)


def ranks(n: int, jobs: list[dict[str, Any]]) -> None:
    """Run the jobs in n processes with torchrun's environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Ranks on CPUs, also where there is a GPU: several of them on one card would wait for each other.
    common = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(jobs)]
    processes = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(n)
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0] * n
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
    background = job("background", micro_batch_size=2, background=True)
    two_ranks([*jobs, background])
    sharded, handed = (json.loads(Path(j["out"]).read_text()) for j in jobs)
    assert_equal_curves(sharded["curve"], reference["curve"], range(STEPS))
    assert_equal_curves(handed["curve"], untied["curve"], range(5, STEPS))

    # Checkpoints that two threads wrote while training went on are the same.
    assert json.loads(Path(background["out"]).read_text()) == sharded
    assert contents(tmp_path / "background") == contents(tmp_path / "sharded")

    # One process reads what two wrote: all of it, to the bit, …
    assert len(list((tmp_path / "sharded" / "step-00000010").glob("*.safetensors"))) == 2
    read = worker.run(job("sharded", seed=3), alone)
    assert (read["curve"], read["digest"]) == ({}, sharded["digest"])
    # … and goes on from the middle.
    shutil.rmtree(tmp_path / "sharded" / "step-00000010")
    assert_equal_curves(worker.run(job("sharded", seed=3), alone)["curve"], reference["curve"], range(5, STEPS))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def weights_differ(directories: tuple[Path, Path], step: int) -> float:
    """Largest difference of a weight between two checkpoints, as a fraction of the largest weight."""
    one, other = (read_weights(directory / f"step-{step:08d}") for directory in directories)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


@pytest.mark.slow
def test_copies_of_shards_equal_one_rank(worker: ModuleType, tmp_path: Path) -> None:
    """HSDP: the norm of the gradient used to count each shard as often as there are copies, and bf16 copies were
    rounded apart. Prefetch and reshard change nothing."""

    def job(name: str, **options: Any) -> dict[str, Any]:
        out = {"directory": str(tmp_path / name), "out": str(tmp_path / f"{name}.json"), "steps": STEPS, "every": 5}
        return out | {"micro_batch_size": 1} | options

    reference = worker.run(job("alone", micro_batch_size=8), Parallel())
    bfloat16 = {"compute": "bfloat16", "weights": "bfloat16"}
    jobs = [
        job("two-by-two", parallel={"replicas": 2}, background=True),
        job("copies", parallel={"replicas": 4}),
        job("ahead", parallel={"prefetch": 1, "reshard_after_forward": False}),
        job("ahead-copies", parallel={"replicas": 2, "prefetch": 3}),
        job("half", parallel={"replicas": 2}, precision=bfloat16),
    ]
    ranks(4, jobs)
    found = {j["directory"]: json.loads(Path(j["out"]).read_text()) for j in jobs}
    for j in jobs[:4]:
        assert_equal_curves(found[j["directory"]]["curve"], reference["curve"], range(STEPS))
        assert weights_differ((tmp_path / "alone", Path(j["directory"])), STEPS) <= 1e-5
    for j in (jobs[0], jobs[4]):
        parts = found[j["directory"]]["parts"]
        assert parts[:2] == parts[2:]
        assert parts[0] != parts[1]
    # One process reads what four wrote, and continues.
    shutil.rmtree(tmp_path / "two-by-two" / f"step-{STEPS:08d}")
    rest = worker.run(job("two-by-two", micro_batch_size=8, seed=3), Parallel())["curve"]
    assert_equal_curves(rest, reference["curve"], range(5, STEPS))


@pytest.mark.slow
def test_two_ranks_continue_on_one_and_on_four(worker: ModuleType, tmp_path: Path) -> None:
    """Also where some of four ranks have an empty part of a matrix."""
    shape = {"head_dim": 2, "intermediate_size": 41}

    def job(name: str, **options: Any) -> dict[str, Any]:
        out = {"directory": str(tmp_path / name), "out": str(tmp_path / f"{name}.json"), "steps": STEPS, "every": 5}
        return out | {"micro_batch_size": 8, "shape": shape} | options

    reference = worker.run(job("alone"), Parallel())["curve"]
    two_ranks([job("two", steps=5, background=True)])
    for name in ("one", "four", "copies"):
        shutil.copytree(tmp_path / "two", tmp_path / name)
    jobs = [job("four", seed=3, micro_batch_size=1), job("copies", seed=3, parallel={"replicas": 2})]
    ranks(4, jobs)
    curves = [json.loads(Path(j["out"]).read_text())["curve"] for j in jobs]
    for curve in [*curves, worker.run(job("one", seed=3), Parallel())["curve"]]:
        assert_equal_curves(curve, reference, range(5, STEPS))
    # … and back.
    shutil.rmtree(tmp_path / "alone" / f"step-{STEPS:08d}")
    for name in ("four", "copies"):
        assert weights_differ((tmp_path / "one", tmp_path / name), STEPS) <= 1e-5
    two_ranks([job("alone", seed=3, micro_batch_size=2)])
    assert weights_differ((tmp_path / "one", tmp_path / "alone"), STEPS) <= 1e-5


def test_copies_of_a_shard_have_its_number() -> None:
    """HSDP shards each copy over consecutive ranks."""
    for replicas, numbers in ((1, [0, 1, 2, 3, 4, 5]), (2, [0, 1, 2, 0, 1, 2]), (3, [0, 1, 0, 1, 0, 1]), (6, [0] * 6)):
        config = ParallelConfig(replicas=replicas)
        assert [Parallel(rank, 6, config=config).shard_rank for rank in range(6)] == numbers


def test_replicas_must_divide_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"^parallel\.replicas: 3 does not divide the number of processes, 4; change"):
        parallel.setup(ParallelConfig(replicas=3))


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


@pytest.mark.slow
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
