"""All arms of one seed, in one process with one thread."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.experiment import Entries, Experiment, Finished
from thinkling.data.artifact import Artifact, write_json
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute

ARMS = "experiments"
"""Folder of the arms' runs, one per seed, below the folder of all runs; experiments share equal stages there."""


def results_of(experiment: Experiment, runs: Path) -> Path:
    """Folder of an experiment's results."""
    return runs / f"experiment-{experiment.name}"


def run_seed(
    experiment: Experiment, recipe: Path, seed: int, runs: Path, console: Console, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Runs whatever is missing for all arms; writes `seed-N.json` and returns its content.

    Waits if another process is working on this seed. Raises UserError as the stages do.
    """
    root = runs / ARMS
    own = [f"seed={seed}", f"name=seed-{seed}", "threads=1"]
    base = load_recipe(recipe, own)
    (root / base.name).mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, Artifact]] = {}
    found: Entries = {}
    with (root / base.name / ".seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arm in experiment.arms:
            overrides = arm.overrides(base, done)
            this = load_recipe(recipe, own + overrides)
            finished = execute(Run(this, root), console, list(experiment.targets))
            done[arm.name] = {one.name: one.artifact for one in finished}
            made = sum(one.artifact.manifest["recorded"]["wall_seconds"] for one in finished if not one.skipped)
            tell(f"seed {seed}: {arm.name} done" + (f", {made:.0f} s of stages" if made else ", already finished"))
            found |= experiment.outcome(Finished(arm.name, this, overrides, done[arm.name]))
    experiment.check(found)
    result = {"seed": seed, "arms": found}
    results_of(experiment, runs).mkdir(parents=True, exist_ok=True)
    write_json(results_of(experiment, runs) / f"seed-{seed}.json", result)
    return result
