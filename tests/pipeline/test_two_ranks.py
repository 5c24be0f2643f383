import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from thinkling.data.artifact import read_manifest
from thinkling.pipeline.checks import wrong
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"


def two_ranks(runs: Path, recipe: Path) -> list[tuple[int, str]]:
    """Exit status and output of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "thinkling", "run", str(recipe), "--runs", str(runs)]
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=240)[0] for rank in ranks]
        return [(rank.returncode, text) for rank, text in zip(ranks, said, strict=True)]
    finally:
        for rank in ranks:
            rank.kill()


def test_muon_on_two_ranks_was_refused_after_two_stages_and_twice(tmp_path: Path) -> None:
    (first, said), (second, silent) = two_ranks(tmp_path, RECIPE)
    assert (first, second) == (2, 2)
    assert (
        "thinkling: stages.pretrain.optimizer.name: muon needs whole matrices, but 2 processes would shard them" in said
    )
    assert "[1/" not in said
    assert "matrices" not in silent
    assert "Traceback" not in silent


@pytest.mark.slow
def test_two_ranks_run_a_chain_of_distributed_stages(tmp_path: Path) -> None:
    """pretrain and sft join one process group; it used to be opened anew by each, and left open at the end."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["stages"] = {name: recipe["stages"][name] for name in ("curate", "tokenize", "pretrain", "sft_cold")}
    recipe["stages"]["pretrain"]["optimizer"] = {"name": "adamw", "lr": 4.0e-3}  # Muon needs whole matrices
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    ranks = two_ranks(tmp_path, tmp_path / "recipe.yaml")
    assert [status for status, _ in ranks] == [0, 0], ranks
    manifests = [read_manifest(path.parent) for path in tmp_path.glob("**/manifest.json")]
    assert {"pretrain", "sft_cold"} <= {manifest["stage"] for manifest in manifests}


def test_a_batch_that_ranks_cannot_share_was_told_in_stage_1_without_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`batch_size 1 is not divisible by 2 ranks`."""
    recipe = load_recipe(RECIPE, ["stages.sft.batch_size=3"])
    assert list(wrong(recipe, ["sft"])) == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = [found.line for found in wrong(recipe, ["sft"]) if "batch_size" in found.line]
    assert told == ["stages.sft.batch_size: 3 is not divisible by 2 processes; change it to a multiple"]


def test_replicas_that_the_processes_cannot_hold_are_refused_before_stage_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without torchrun, where they would have no effect."""
    recipe = load_recipe(RECIPE, ["stages.sft.optimizer.name=adamw", "stages.sft.parallel={replicas: 2}"])
    for processes, told in (("1", True), ("2", False), ("4", False), ("3", True)):
        monkeypatch.setenv("WORLD_SIZE", processes)
        lines = [found.line for found in wrong(recipe, ["sft"]) if "replicas" in found.line]
        line = (
            f"stages.sft.parallel.replicas: 2 does not divide the number of processes, {processes}; change it, or "
            "start another number of processes with torchrun"
        )
        assert lines == [line] * told


def test_a_run_goes_on_with_another_use_of_the_processes(tmp_path: Path) -> None:
    """Settings of checkpoints and processes are not part of the hash, as the number of processes is not."""
    changed = ["stages.sft.parallel={replicas: 2, prefetch: 1}", "stages.sft.async_checkpoints=true"]
    before, after = (Run(load_recipe(RECIPE, overrides), tmp_path) for overrides in ([], changed))
    assert before.resolved("sft") == after.resolved("sft")
    assert not {"parallel", "async_checkpoints"} & before.resolved("sft")["stage"].keys()
