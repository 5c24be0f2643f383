"""All arms of one seed, in one process with one thread."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from thinkling.data.artifact import Artifact, write_json
from thinkling.pipeline.evidence.arms import Experiment
from thinkling.pipeline.evidence.compute import dpd_passes, sft_passes
from thinkling.pipeline.evidence.outcomes import loss_outcome, score_outcome, seconds
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.pipeline.runner import Run, execute
from thinkling.stages.dpd.config import DpdConfig

ARMS = "evidence"
"""Folder of the arms' runs, one a seed, under the folder of all runs: experiments share what is equal there."""


def results_of(experiment: Experiment, runs: Path) -> Path:
    """Folder of an experiment's results."""
    return runs / f"evidence-{experiment.name}"


def run_seed(
    experiment: Experiment, recipe: Path, seed: int, runs: Path, console: Console, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Runs what is missing of all arms, and writes and gives back `seed-N.json`.

    Waits where another process works on this seed. Raises UserError as the stages do.
    """
    root = runs / ARMS
    own = [f"seed={seed}", f"name=seed-{seed}", "threads=1"]
    base = load_recipe(recipe, own)
    (root / base.name).mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, Artifact]] = {}
    found: dict[str, Any] = {}
    with (root / base.name / ".seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arm in experiment.arms:
            overrides = arm.overrides(base, done)
            this = load_recipe(recipe, own + overrides)
            finished = execute(Run(this, root), console, list(experiment.targets))
            done[arm.name] = {one.name: one.artifact for one in finished}
            made = sum(one.artifact.manifest["recorded"]["wall_seconds"] for one in finished if not one.skipped)
            tell(f"seed {seed}: {arm.name} done" + (f", {made:.0f} s of stages" if made else ", was there already"))
            found |= outcomes(experiment, arm.name, this, done[arm.name], overrides)
    _check_equal_rows(experiment, found)
    result = {"seed": seed, "arms": found}
    results_of(experiment, runs).mkdir(parents=True, exist_ok=True)
    write_json(results_of(experiment, runs) / f"seed-{seed}.json", result)
    return result


def outcomes(
    experiment: Experiment, arm: str, recipe: Recipe, done: dict[str, Artifact], overrides: list[str]
) -> dict[str, Any]:
    """What an arm found, and where the experiment has one the checkpoint that it started from, as arm `sft`."""
    if experiment.name == "fg-wsd":
        return {arm: {"overrides": overrides, "seconds": seconds(done, ["pretrain"]), **loss_outcome(done["pretrain"])}}
    own = experiment.targets[-1].removeprefix("evaluate_")
    entry = {"overrides": overrides, "seconds": seconds(done, [own, experiment.targets[-1]])}
    if experiment.name == "dpd":
        stage = recipe.stages[own]
        passes = dpd_passes(done[own], stage).total if isinstance(stage, DpdConfig) else sft_passes(done[own])
        entry["token_passes"] = round(passes)
        entry["counts"] = {k: v for k, v in done[own].counts.items() if isinstance(v, int | float)}
    before = [name for name in done if not name.startswith("evaluate_") and name != own]
    start = {"overrides": [], "seconds": seconds(done, before), **score_outcome(done["evaluate_sft"])}
    return {"sft": start, arm: {**entry, **score_outcome(done[experiment.targets[-1]])}}


def _check_equal_rows(experiment: Experiment, found: dict[str, Any]) -> None:
    if experiment.name == "fg-wsd":
        for key in ("plateau_rows", "sources"):
            if found["fg_equal"][key] != found["wsd"][key]:
                raise RuntimeError(f"fg_equal and wsd saw other {key}: {found['fg_equal'][key]}, {found['wsd'][key]}")
