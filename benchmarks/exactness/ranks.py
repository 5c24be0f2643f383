"""Whether runs of two ranks (gloo) that were killed continue exactly, on two ranks and on another number of ranks.

    python -m benchmarks.exactness.ranks

exact.ranks: pretrain, sft and dpd, each killed on two ranks and continued on one and on four, against an uninterrupted
run of two ranks: largest relative deviation of a step's loss. exact.rank-order: steps in which a rank, in any of these
runs, trained on other rows than its share of the global batch. exact.kills: bytes of the exported models and of
metrics.jsonl that differ from the uninterrupted run, after kills with SIGKILL at moments drawn from a seed, half of
them while a thread writes a checkpoint. The killed runs write their checkpoints in the background, the uninterrupted
runs do not. Sometimes one rank dies before the other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.exactness import rank_job

STAGES = tuple(rank_job.CONFIGS)
PER_RUN = 4
"""Kills of one run, before it may end."""
LONGEST = 120.0
"""Seconds after which a run without progress is an error."""


@dataclass
class Workspace:
    """A directory with the stages' inputs, and the runs that were made in it."""

    folder: Path
    rng: random.Random
    runs: list[Path] = field(default_factory=list)
    during_saves: int = 0

    def run(self, name: str) -> Path:
        """A new run's directory."""
        directory = self.folder / name
        directory.mkdir()
        self.runs.append(directory)
        return directory

    def start(self, stage: str, directory: Path, n: int, background: bool = True) -> list[BaseProcess]:
        """Start n ranks, as processes forked from one that has imported everything."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([rank_job.__name__])
        common = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks: list[BaseProcess] = []
        for rank in range(n):
            place = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            fields = {"async_checkpoints": background}
            ranks.append(context.Process(target=rank_job.run, args=(stage, self.folder, directory, place, fields)))
            ranks[-1].start()
        return ranks

    def finish(self, ranks: list[BaseProcess], directory: Path) -> None:
        """Wait until the ranks are done. Raises RuntimeError if one of them fails."""
        for rank in ranks:
            rank.join(LONGEST)
        if any(rank.exitcode != 0 for rank in ranks):
            for rank in ranks:
                rank.kill()
            log = directory.with_name(directory.name + ".log").read_text(errors="replace")
            raise RuntimeError(f"{directory.name}: ranks ended with {[r.exitcode for r in ranks]}\n{log[-4000:]}")

    def kill(self, ranks: list[BaseProcess], directory: Path, during_save: bool) -> bool:
        """Kill all ranks at a random moment, after new steps or while a checkpoint is written. Return whether they
        were still running."""
        ready = (_writes if during_save else _steps)(directory, self.rng)
        began = time.monotonic()
        while not ready():
            if any(rank.exitcode is not None for rank in ranks):
                self.finish(ranks, directory)
                return False
            if time.monotonic() - began > LONGEST:
                raise RuntimeError(f"{directory.name}: no progress")
            time.sleep(0.0005)
        time.sleep(self.rng.uniform(0.0, 0.01 if during_save else 0.05))
        pause = self.rng.choice((0.0, 0.0, 0.05))
        for rank in self.rng.sample(ranks, len(ranks)):
            rank.kill()
            time.sleep(pause)
        for rank in ranks:
            rank.join()
        if all(rank.exitcode == 0 for rank in ranks):
            return False
        self.during_saves += any((directory / "checkpoints").glob("step-*.tmp"))
        return True


def _lines(directory: Path) -> int:
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _steps(directory: Path, rng: random.Random) -> Callable[[], bool]:
    # After 5 steps, a new checkpoint is complete, because the next one is written after 4.
    wanted = _lines(directory) + rng.randint(5, 8)
    return lambda: _lines(directory) >= wanted


def _writes(directory: Path, rng: random.Random) -> Callable[[], bool]:
    before = {path.name for path in (directory / "checkpoints").glob("step-*")}
    seen: set[str] = set()
    wanted = rng.randint(1, 3)

    def ready() -> bool:
        now = {path.name for path in (directory / "checkpoints").glob("step-*.tmp")}
        seen.update(now - before)
        return bool(now) and len(seen) >= wanted

    return ready


def losses(directory: Path) -> list[float]:
    """The loss of every step of a finished run."""
    return [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def deviations(found: Path, reference: Path) -> list[float]:
    """Relative deviation of each step's loss."""
    return [abs(a - b) / abs(b) for a, b in zip(losses(found), losses(reference), strict=True)]


def orders(directory: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """(Ranks, rank) → what the rank recorded, step by step; repeated steps are repeated here."""
    found = {}
    for path in sorted(directory.with_name(directory.name + "-order").iterdir()):
        n, rank = map(int, path.stem.split("-"))
        lines = path.read_text().split("\n")[:-1]  # without the line that a kill cut short
        found[n, rank] = [json.loads(line) for line in lines]
    return found


def wrong_orders(directory: Path, reference: Path) -> int:
    """Number of steps in which a rank had other rows than its share of the step's rows in the reference run."""
    first, second = orders(reference)[2, 0], orders(reference)[2, 1]
    whole = {a["step"]: a["rows"] + b["rows"] for a, b in zip(first, second, strict=True)}
    wrong = 0
    for (n, rank), lines in orders(directory).items():
        for line in lines:
            rows = whole[line["step"]]
            size = len(rows) // n
            wrong += line["rows"] != rows[rank * size : (rank + 1) * size]
    return wrong


def differing_bytes(found: Path, reference: Path) -> int:
    """Bytes that differ in the exported model and in the log of the steps."""
    names = {
        path.relative_to(root)
        for root in (found, reference)
        for path in (root / "metrics.jsonl", *(root / "model").rglob("*"))
        if path.is_file()
    }
    total = 0
    for name in sorted(names):
        x, y = ((root / name).read_bytes() if (root / name).exists() else b"" for root in (found, reference))
        total += abs(len(x) - len(y)) + sum(a != b for a, b in zip(x, y, strict=False))
    return total


def other_ranks(space: Workspace, stage: str, reference: Path) -> dict[str, list[float]]:
    """Deviations of runs that were killed on two ranks and continued on one and on four."""
    two = space.run(f"{stage}-two")
    if not space.kill(space.start(stage, two, 2), two, during_save=False):
        raise RuntimeError(f"{stage}: the run ended before it was killed")
    found = {}
    for n in (1, 4):
        directory = space.run(f"{stage}-continued-{n}")
        shutil.copytree(two, directory, dirs_exist_ok=True)
        space.finish(space.start(stage, directory, n), directory)
        if min(line["step"] for line in orders(directory)[n, 0]) == 0:
            raise RuntimeError(f"{stage}: the run of {n} ranks started again")
        found[f"{stage}, {n}"] = deviations(directory, reference)
    return found


def series(space: Workspace, references: dict[str, Path], kills: int) -> list[int]:
    """Differing bytes of runs with `kills` kills in total."""
    done, found = 0, []
    while done < kills:
        stage = STAGES[len(found) % len(STAGES)]
        directory = space.run(f"{stage}-killed-{len(found)}")
        for _ in range(min(PER_RUN, kills - done)):
            if not space.kill(space.start(stage, directory, 2), directory, during_save=done % 2 == 0):
                break  # the run ended first
            done += 1
        else:
            space.finish(space.start(stage, directory, 2), directory)
        found.append(differing_bytes(directory, references[stage]))
    return found


def measure(folder: Path, kills: int, seed: int) -> dict[str, dict[str, Any]]:
    """All claims."""
    space = Workspace(folder, random.Random(seed))
    rank_job.prepare(folder)
    references, found = {}, {}
    for stage in STAGES:
        references[stage] = space.run(f"{stage}-whole")
        space.finish(space.start(stage, references[stage], 2, background=False), references[stage])
        found |= other_ranks(space, stage, references[stage])
    space.during_saves = 0
    differing = series(space, references, kills)
    wrong = {run.name: wrong_orders(run, references[run.name.split("-")[0]]) for run in space.runs}
    worst = [max(values) for values in found.values()]
    if kills and not space.during_saves:
        raise RuntimeError("no kill fell into the write of a checkpoint")
    return {
        "exact.ranks": {
            "value": max(worst), "low": min(worst), "high": max(worst), "n": sum(map(len, found.values())),
            "runs": worst, "unit": "relative", "cases": {name: max(values) for name, values in found.items()},
        },
        "exact.rank-order": {
            "value": sum(wrong.values()), "n": len(wrong), "runs": list(wrong.values()), "unit": "steps",
        },
        "exact.kills": {
            "value": sum(differing), "n": kills, "runs": differing, "unit": "differing bytes",
            "during_saves": space.during_saves,
        },
    }  # fmt: skip


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        measurements = measure(Path(folder), options.kills, options.seed)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
