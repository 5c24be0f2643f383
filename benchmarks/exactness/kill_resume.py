"""Whether a run killed with SIGKILL at random moments and resumed equals an uninterrupted run, byte for byte.

    python -m benchmarks.exactness.kill_resume --kills 20

Each kill waits for an event: a checkpoint being written (its `….tmp` appears), a step at a phase boundary (read from
metrics.jsonl), or a random moment. All files of the run are compared except what is allowed to differ: `recorded`
blocks, times and memory in summary.json, `*.log.jsonl`, the lock, and report.html, which shows those times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

RECIPE = ROOT / "recipes" / "nano.yaml"
TIMES = {"wall_seconds", "peak_rss_mb"}
EVENTS = ("checkpoint being written", "phase edge", "random moment")
ORDERS = (EVENTS, ("random moment",) * 3)
"""Kills of one run, in this order: the first two events happen in pre-training, so they precede the random moment."""


@dataclass
class Report:
    """The outcome of a series of kills."""

    differing: list[str] = field(default_factory=list)
    differing_bytes: int = 0
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))


def start(recipe: Path, runs: Path, log: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """Starts `thinkling run` in a process group of its own."""
    command = [sys.executable, "-m", "thinkling", "run", str(recipe), "--runs", str(runs)]
    for override in overrides:
        command += ["--set", override]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, cwd=ROOT)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a run to finish; RuntimeError if it fails."""
    if process.wait() != 0:
        raise RuntimeError(f"thinkling ended with {process.returncode}:\n{log.read_text()[-4000:]}")


def kill_at(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    """Kills the process group as soon as `ready` returns true; False if the run ended first."""
    while process.poll() is None:
        if ready():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.001)
    return False


def trigger(event: str, run: Path, edges: list[int], rng: random.Random, longest: float) -> Callable[[], bool]:
    """A function that returns true from the event on: on a busy machine polling may miss the exact moment."""
    began, at = time.monotonic(), rng.uniform(0.02, 0.9) * longest
    edge = rng.choice(edges)
    checkpoints: set[str] = set()
    wanted = rng.randint(1, 3)

    def checkpoint_being_written() -> bool:
        checkpoints.update(path.stem for path in run.glob("*.partial/checkpoints/step-*"))
        return len(checkpoints) >= wanted

    def phase_edge() -> bool:
        return any(path.read_bytes().count(b"\n") >= edge for path in run.glob("pretrain-*.partial/metrics.jsonl"))

    if event == "checkpoint being written":
        return checkpoint_being_written
    if event == "phase edge":
        return phase_edge
    return lambda: time.monotonic() - began > at


def comparable(path: Path) -> bytes:
    """A file's bytes without the parts that may differ from run to run."""
    if path.name == "manifest.json":
        value = json.loads(path.read_text())
        del value["recorded"]
        return json.dumps(value).encode()
    if path.name == "summary.json":
        return json.dumps(without_times(json.loads(path.read_text()))).encode()
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """A JSON value without the keys that hold times and memory."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def files(root: Path) -> dict[str, Path]:
    """Relative name → file, for everything that is compared; the name of a link includes its target."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[f"{name} → {os.readlink(path)}"] = Path(os.devnull)
        elif path.is_file() and not name.endswith((".log.jsonl", ".lock", "report.html")):
            found[name] = path
    return found


def compare(left: Path, right: Path, report: Report) -> None:
    """Adds the files in which two runs differ."""
    a, b = files(left), files(right)
    for name in sorted({*a, *b}):
        x = comparable(a[name]) if name in a else b""
        y = comparable(b[name]) if name in b else b""
        if name not in a or name not in b or x != y:
            report.differing.append(name)
            report.differing_bytes += max(1, abs(len(x) - len(y)) + sum(p != q for p, q in zip(x, y, strict=False)))


def series(kills: int, seed: int, workspace: Path, recipe: Path = RECIPE, overrides: list[str] | None = None) -> Report:
    """One uninterrupted run, then runs killed `kills` times in total, at most three times each, then compared."""
    rng, report, overrides = random.Random(seed), Report(), overrides or []
    log, whole = workspace / "output.txt", workspace / "whole"
    began = time.monotonic()
    finish(start(recipe, whole, log, overrides), log)
    longest = time.monotonic() - began
    name = next(p.name for p in whole.iterdir())
    manifest = json.loads(next((whole / name).glob("pretrain-*/manifest.json")).read_text())
    # The first boundary may already be past at the first kill, and the last one is the end.
    edges = [step + offset for step in manifest["counts"]["phase_ends"][1:-1] for offset in (-1, 0, 1)]
    done, number = 0, 0
    while done < kills:
        runs = workspace / f"killed-{number}"
        for event in ORDERS[number % len(ORDERS)][: kills - done]:
            process = start(recipe, runs, log, overrides)
            if kill_at(process, trigger(event, runs / name, edges, rng, longest)):
                report.kills[event] += 1
            done += 1
        finish(start(recipe, runs, log, overrides), log)
        compare(whole / name, runs / name, report)
        number += 1
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--claim", default="exact.kill")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = series(arguments.kills, arguments.seed, Path(folder))
    print(report, file=sys.stderr)
    killed = sum(report.kills.values())
    measurement = {"value": report.differing_bytes, "n": killed, "runs": [report.kills], "unit": "differing bytes"}
    print(json.dumps({"measurements": {arguments.claim: measurement}}))


if __name__ == "__main__":
    main()
