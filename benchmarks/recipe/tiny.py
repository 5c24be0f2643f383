"""`make tiny` in a clean clone of HEAD on two cores, then once more: time, memory, network, stages run again.

    python -m benchmarks.recipe.tiny [--keep runs]

Set-up (the clone's own .venv) is not timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.machine import ROOT
from benchmarks.processes import Watched, two_cores, watch


def manifests(runs: Path) -> dict[str, int]:
    """Stage directory → time when its manifest was written (ns), for every finished stage."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in sorted(runs.glob("*/*/manifest.json"))
        if path.parent.suffix != ".partial" and not path.parent.is_symlink()
    }


def tiny(clone: Path) -> Watched:
    """Runs `make tiny`; a failed run ends the benchmark."""
    watched = watch(["make", "tiny"], clone)
    if watched.status != 0:
        raise SystemExit(f"make tiny: exit status {watched.status}")
    return watched


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder to move the finished run to, for the claims over seeds")
    keep = parser.parse_args().keep
    if keep is not None and (keep / "tiny").exists():
        raise SystemExit(f"{keep}/tiny already exists")
    cores = two_cores()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "setup"], cwd=clone, check=True, stdout=sys.stderr)
        busy = psutil.cpu_percent(interval=5)
        first = tiny(clone)
        done = manifests(clone / "runs")
        again = tiny(clone)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copytree(clone / "runs" / "tiny", keep / "tiny", symlinks=True)
        redone = {name for name, written in manifests(clone / "runs").items() if done.get(name) != written}
    beside = {"cores": cores, "percent_busy_before": busy}
    minutes, gigabytes = first.seconds / 60, first.peak_bytes / 1e9
    found = {
        "tiny.story-wall": {"value": minutes, "n": 1, "runs": [minutes], "unit": "minutes", **beside},
        "tiny.memory": {"value": gigabytes, "n": 1, "runs": [gigabytes], "unit": "GB"},
        "tiny.network": {
            "value": len(first.network),
            "n": 1,
            "runs": 1,
            "unit": "attempts",
            "attempts": list(first.network[:20]),
            "without_network": first.cut_off,
        },
        "tiny.again-wall": {"value": again.seconds, "n": 1, "runs": [again.seconds], "unit": "seconds", **beside},
        "tiny.again-stages": {
            "value": len(redone),
            "n": len(done),
            "runs": 1,
            "unit": "stages",
            "redone": sorted(redone),
        },
    }
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
