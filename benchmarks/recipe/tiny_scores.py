"""Scores on held-out puzzles throughout tiny, over seeds of the whole run.

    python -m benchmarks.recipe.tiny_scores --seeds 0 1 2 --jobs 2

Runs recipes/tiny.yaml once per seed, then pairs checkpoints problem by problem: the score of a problem is its
mean over k samples and all seeds, and the interval is bootstrapped over problems. With more than one job the seeds run
in parallel, which does not change the results. An interrupted script resumes.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.tiny_runs import RECIPE, finished_runs, rollouts
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stats import bootstrap_interval

TASK_SET, WORSE = "puzzles", -0.02


def chat_evaluations(recipe: Recipe) -> list[str]:
    """The evaluations on puzzles in chat form, in the recipe's order, without the teacher's."""
    return [
        name
        for name, stage in recipe.stages.items()
        if isinstance(stage, EvaluateConfig)
        and TASK_SET in stage.task_sets
        and stage.task_sets[TASK_SET].renderer == "chat"
        and stage.inputs["model"] != "sft_teacher"
    ]


def main() -> None:
    runs = finished_runs(__doc__)
    names = chat_evaluations(load_recipe(RECIPE))
    # Stage → seeds × problems.
    means: dict[str, np.ndarray] = {}
    for name in names:
        found = [rollouts(run, name, TASK_SET) for run in runs]
        assert all(list(f["ids"]) == list(found[0]["ids"]) for f in found)
        means[name] = np.stack([f["per_problem"] for f in found])

    def entry(per_seed_SP: np.ndarray, **beside: Any) -> dict[str, Any]:
        low, high = bootstrap_interval(per_seed_SP.mean(axis=0))
        value, n = float(per_seed_SP.mean()), per_seed_SP.shape[1]
        return {"value": value, "low": low, "high": high, "n": n, "runs": per_seed_SP.mean(axis=1).tolist(),
                "unit": "avg@8", **beside}  # fmt: skip

    last = names[-1]
    steps = {f"{a} → {b}": bootstrap_interval((means[b] - means[a]).mean(axis=0)) for a, b in pairwise(names)}
    fallen = [step for step, (_, high) in steps.items() if high < WORSE]
    by_stage = {name: values.mean(axis=1).tolist() for name, values in means.items()}
    found = {
        "tiny.dpd-gain": entry(means["evaluate_dpd"] - means["evaluate_sft"]),
        "tiny.end-gain": entry(means[last] - means["evaluate_dpd"]),
        "tiny.score": entry(means[last], by_stage=by_stage),
        "tiny.transitions": {
            "value": len(fallen),
            "n": len(steps),
            "runs": fallen,
            "unit": "transitions",
            "intervals": steps,
        },
    }
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
