"""What each stage of tiny adds, over seeds of the whole run.

    python -m benchmarks.recipe.tiny_story --seeds 0 1 2 3 4 --jobs 2

Runs recipes/tiny.yaml once per seed. A difference between two models is paired by seed: `value`, `low` and `high` are
the mean over seeds and its 95% t-interval; `over_problems` is the bootstrap over problems of the mean over samples and
seeds. The base model is asked in its own form, pages, about the same held-out problems. With several jobs, seeds run in
parallel, which does not change the results. An interrupted script resumes.
"""

from __future__ import annotations

import json
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.tiny_runs import RECIPE, artifact, finished_runs, rollouts
from experiments.thinking import Thinking, mean_split, split_gain
from thinkling.pipeline.recipe import load_recipe
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.evaluate.grades import read_grades
from thinkling.stats import difference, t_interval

PUZZLES, KEPT, FALLEN = "puzzles", ("programs", "writing"), -0.03
STEPS = {
    "tiny.beats-base": ("evaluate_base", "evaluate"),
    "tiny.each-stage-sft": ("evaluate_cold", "evaluate_sft"),
    "tiny.each-stage-dpd": ("evaluate_sft", "evaluate_dpd"),
    "tiny.each-stage-rl": ("evaluate_dpd", "evaluate_rl_stem"),
}
"""Claim → evaluation before and after."""


def score_of(run: Path, stage: str, task_set: str) -> np.ndarray:
    """Mean over samples for each held-out problem, sorted by id: of grades where the evaluation has them, otherwise of
    correct answers."""
    graded = artifact(run, stage) / "grades" / f"{task_set}.parquet"
    if not graded.exists():
        return rollouts(run, stage, task_set)["per_problem"]
    rows = sorted(read_grades(graded), key=lambda row: row.problem_id)
    return np.array([np.mean([row.grade for row in found]) for _, found in groupby(rows, lambda row: row.problem_id)])


def gain(runs: list[Path], before: str, after: str, task_set: str) -> dict[str, Any]:
    """The difference of two evaluations as a measurement."""
    each_SP = np.stack([score_of(run, after, task_set) - score_of(run, before, task_set) for run in runs])
    per_seed = each_SP.mean(axis=1).tolist()
    value, low, high = t_interval(per_seed)
    problems = difference(each_SP.mean(axis=0).tolist())
    return {"value": value, "low": low, "high": high, "n": len(runs), "runs": per_seed, "unit": "avg@8",
            "over_problems": {"low": problems.low, "high": problems.high, "n": problems.n}}  # fmt: skip


def thinking(run: Path, stage: str) -> dict[str, Thinking]:
    """Counts by family of an evaluation on puzzles."""
    columns = ["family", "outcome", "thinks"]
    rows = pq.read_table(artifact(run, stage) / "rollouts" / PUZZLES, columns=columns).to_pylist()
    rows.sort(key=lambda row: row["family"])
    found = {}
    for family, samples in groupby(rows, lambda row: row["family"]):
        pairs = [(row["outcome"] == "right", bool(row["thinks"])) for row in samples]
        found[family] = Thinking(
            samples=len(pairs),
            thinking=sum(thinks for _, thinks in pairs),
            right_thinking=sum(right and thinks for right, thinks in pairs),
            right_direct=sum(right and not thinks for right, thinks in pairs),
        )
    return found


def better(runs: list[Path], before: str, after: str) -> dict[str, Any]:
    """The part of a gain on puzzles that comes from thinking better; families weigh the same."""
    splits = []
    for run in runs:
        first, then = thinking(run, before), thinking(run, after)
        splits.append(mean_split([split_gain(first[family], then[family]) for family in first]))
    per_seed = [split.better for split in splits]
    value, low, high = t_interval(per_seed)
    others = {"more_often": [split.more_often for split in splits], "direct": [split.direct for split in splits]}
    return {"value": value, "low": low, "high": high, "n": len(runs), "runs": per_seed, "unit": "avg@8"} | others


def chat_evaluations() -> list[str]:
    """Evaluations that include programs and writing, in the recipe's order from the stage that taught them."""
    return [
        name
        for name, stage in load_recipe(RECIPE).stages.items()
        if isinstance(stage, EvaluateConfig)
        and set(KEPT) <= set(stage.task_sets)
        and stage.inputs["model"] != "sft_teacher"
    ]


def kept(runs: list[Path]) -> dict[str, Any]:
    """Transitions of programs and writing, and those whose interval lies below `FALLEN`."""
    steps = {
        f"{task_set}: {before} → {after}": gain(runs, before, after, task_set)
        for task_set in KEPT
        for before, after in pairwise(chat_evaluations())
    }
    fallen = [name for name, found in steps.items() if found["high"] < FALLEN]
    intervals = {name: [found[key] for key in ("value", "low", "high")] for name, found in steps.items()}
    return {"value": len(fallen), "n": len(steps), "runs": fallen, "unit": "transitions", "intervals": intervals}


def levels(runs: list[Path]) -> dict[str, list[float]]:
    """Evaluation and task set → score of each seed."""
    found = {}
    for name, stage in load_recipe(RECIPE).stages.items():
        if isinstance(stage, EvaluateConfig):
            for task_set in stage.task_sets:
                found[f"{name}/{task_set}"] = [float(score_of(run, name, task_set).mean()) for run in runs]
    return found


def main() -> None:
    runs = finished_runs(__doc__, seeds=(0, 1, 2, 3, 4))
    found = {claim: gain(runs, before, after, PUZZLES) for claim, (before, after) in STEPS.items()}
    found["tiny.beats-base"]["levels"] = levels(runs)
    found["tiny.thinks-better"] = better(runs, "evaluate_dpd", "evaluate_rl_stem")
    found["tiny.keeps"] = kept(runs)
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
