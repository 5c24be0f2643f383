import os
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from thinkling.data.artifact import read_manifest

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"


def test_two_ranks_run_a_chain_of_distributed_stages(tmp_path: Path) -> None:
    """pretrain and sft join one process group; it used to be opened anew by each, and left open at the end."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["stages"] = {name: recipe["stages"][name] for name in ("curate", "tokenize", "pretrain", "sft_cold")}
    recipe["stages"]["pretrain"]["optimizer"] = {"name": "adamw", "lr": 4.0e-3}  # Muon needs whole matrices
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "thinkling", "run", str(tmp_path / "recipe.yaml"), "--runs", str(tmp_path)]
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
        assert [rank.returncode for rank in ranks] == [0, 0], said
    finally:
        for rank in ranks:
            rank.kill()
    manifests = [read_manifest(path.parent) for path in tmp_path.glob("**/manifest.json")]
    assert {"pretrain", "sft_cold"} <= {manifest["stage"] for manifest in manifests}
