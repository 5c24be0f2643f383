"""Runs an experiment with one process per seed. Finished stages are skipped, interrupted ones resume."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import gather
from experiments.experiment import Experiment
from experiments.seed import results_of
from thinkling.errors import UserError
from thinkling.pipeline.recipe import load_recipe


def parse_seeds(text: str) -> list[int]:
    """Parses `0-7`, `0,1,2` or a mixture of both into seeds, each once, in order.

    Raises UserError for anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UserError(f"--seeds {text}: write numbers and ranges, such as 0-7 or 0,3,5")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(found)


def run(
    experiment: Experiment, recipe: Path, seeds: list[int], jobs: int, runs: Path, console: Console
) -> dict[str, Any]:
    """Runs the seeds, rewrites experiment.json whenever one finishes, and returns it.

    Raises UserError if the recipe is invalid or a seed failed; the other seeds are finished and written first.
    """
    load_recipe(recipe)
    folder = results_of(experiment, runs)
    folder.mkdir(parents=True, exist_ok=True)
    finished: list[dict[str, Any]] = []
    failed: list[str] = []
    report: dict[str, Any] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_one_seed, experiment, recipe, seed, runs, console): seed for seed in seeds}
        for done in as_completed(waiting):
            seed, complaint = waiting[done], done.result()
            if complaint:
                failed.append(complaint)
                console.print(complaint, style="red", highlight=False, markup=False, soft_wrap=True)
                continue
            finished.append(json.loads((folder / f"seed-{seed}.json").read_text(encoding="utf-8")))
            report = gather.write(experiment, finished, recipe, runs)
            console.print(f"{experiment.name}: {len(finished)} of {len(seeds)} seeds", highlight=False)
    if failed:
        raise UserError(f"{len(failed)} of {len(seeds)} seeds failed; fix the cause and run the same command again")
    return report


def _one_seed(experiment: Experiment, recipe: Path, seed: int, runs: Path, console: Console) -> str | None:
    """Runs a seed in its own process and forwards its output. Returns None, or the error."""
    log = results_of(experiment, runs) / f"seed-{seed}.log"
    command = [sys.executable, "-m", "experiments", experiment.name, "--seeds", str(seed), "--one-seed"]
    command += ["--recipe", str(recipe), "--runs", str(runs)]
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            console.print(line.rstrip("\n"), highlight=False, markup=False, soft_wrap=True)
    if process.returncode == 0:
        return None
    last = (log.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]
    return f"seed {seed}: exit status {process.returncode}; {log} ends: {last}"
