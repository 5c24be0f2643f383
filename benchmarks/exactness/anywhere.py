"""Runs `make test` and `nano` with torch's default CPU kernels and with AVX2's, and counts failures.

    python -m benchmarks.exactness.anywhere

On most machines torch chooses AVX-512 kernels, whose sums differ in the last bits; a test or stage that depends on
those bits fails elsewhere. `nano` runs with seeds 0 to 4 under both. The value is the number of tests, checks and runs
that fail; a `make test` that stops before pytest counts as one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.exactness.count_failures import counts
from benchmarks.machine import ROOT

KERNELS: dict[str, dict[str, str]] = {"default": {}, "avx2": {"ATEN_CPU_CAPABILITY": "avx2"}}
SEEDS = range(5)
RECIPE = ROOT / "recipes" / "nano.yaml"


def tests(environment: dict[str, str]) -> tuple[int, int]:
    """Runs `make test`: number of tests run, and the failures."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = f"{environment.get('PYTEST_ADDOPTS', '')} --junit-xml={report}".strip()
        command = ["make", "test"]
        status = subprocess.run(
            command, cwd=ROOT, env={**environment, "PYTEST_ADDOPTS": options}, stdout=sys.stderr
        ).returncode
        ran, failed = counts(report) if report.exists() else (1, 1)
    # A linter error, or pytest stopped for another reason than a failed test.
    return ran, max(failed, int(status != 0))


def nano(seed: int, environment: dict[str, str]) -> bool:
    """Whether the recipe runs to completion."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "thinkling", "run", str(RECIPE), "--runs", folder, "--set", f"seed={seed}"]
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("test", "nano"), help="run only one half, for a quick look")
    only = parser.parse_args().only
    subprocess.run(["make", "setup"], cwd=ROOT, check=True, stdout=sys.stderr)
    plain = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    ran, runs = 0, []
    for kernels, setting in KERNELS.items():
        environment = {**plain, **setting}
        n, failed = tests(environment) if only != "nano" else (0, 0)
        seeds = [seed for seed in SEEDS if not nano(seed, environment)] if only != "test" else []
        ran += n + (len(SEEDS) if only != "test" else 0)
        runs.append({"kernels": kernels, "tests": n, "failed_tests": failed, "failed_seeds": seeds})
        print(runs[-1], flush=True)
    value = sum(run["failed_tests"] + len(run["failed_seeds"]) for run in runs)
    print(
        json.dumps({"measurements": {"tests.anywhere": {"value": value, "n": ran, "runs": runs, "unit": "failures"}}})
    )


if __name__ == "__main__":
    main()
