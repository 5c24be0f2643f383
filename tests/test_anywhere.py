"""The test bed runs to its end whatever the kernels and the seed: no recipe hangs on one lucky problem.

It did: nano's dpd needed a problem that the student always solves, which some processors' kernels did not give.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["default", "avx2"])
@pytest.mark.parametrize("seed", range(5))
def test_nano_runs_with_every_seed_and_kernel(tmp_path: Path, kernels: str, seed: int) -> None:
    """`default` are ATen's kernels without vector instructions: the most unlike AVX2's that every machine has."""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": kernels}
    command = [sys.executable, "-m", "thinkling", "run", "recipes/nano.yaml", "--runs", str(tmp_path)]
    result = subprocess.run(
        [*command, "--set", f"seed={seed}"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
