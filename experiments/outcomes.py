"""Figures read from an arm's finished artifacts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.experiment import Entries, Finished
from experiments.thinking import Thinking
from thinkling.data.artifact import Artifact
from thinkling.stages.base import StageConfig


def losses(stage: str, weights: Mapping[str, float]) -> Callable[[Finished], Entries]:
    """Outcome of arms that end with pre-training: `stage` is that stage; `weights` are as in `loss_outcome`."""

    def read(arm: Finished) -> Entries:
        found = loss_outcome(arm.artifacts[stage], weights)
        return {arm.name: {"overrides": arm.overrides, "seconds": seconds(arm.artifacts, [stage]), **found}}

    return read


def scores(
    stage: str, before: str, passes: Callable[[Artifact, StageConfig], float] | None = None
) -> Callable[[Finished], Entries]:
    """Outcome of arms that train in place of `stage`, from the checkpoint of stage `before`, and are scored by
    `evaluate_STAGE`. `passes` counts an arm's compute if the arms are compute-matched."""

    def read(arm: Finished) -> Entries:
        done = arm.artifacts
        entry: dict[str, Any] = {"overrides": arm.overrides, "seconds": seconds(done, [stage, f"evaluate_{stage}"])}
        if passes is not None:
            entry["token_passes"] = round(passes(done[stage], arm.recipe.stages[stage]))
            entry["counts"] = {k: v for k, v in done[stage].counts.items() if isinstance(v, int | float)}
        earlier = [name for name in done if not name.startswith("evaluate_") and name != stage]
        start = {"overrides": [], "seconds": seconds(done, earlier), **score_outcome(done[f"evaluate_{before}"])}
        return {before: start, arm.name: {**entry, **score_outcome(done[f"evaluate_{stage}"])}}

    return read


def loss_outcome(pretrain: Artifact, weights: Mapping[str, float]) -> dict[str, Any]:
    """Validation losses after the last phase, and rows used per source before decay and in total.

    `value`: the losses of the sources in `weights`, weighted by them.
    """
    last = len(list((pretrain.path / "validation").glob("*.json"))) - 1
    losses = json.loads(pretrain.file(f"validation/{last}.json").read_text(encoding="utf-8"))
    decay = losses.pop("phase")
    plateau: Counter[str] = Counter()
    for line in pretrain.file("metrics.jsonl").read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        if step["phase"] != decay:
            plateau.update(step["rows"])
    return {
        "value": sum(fraction * losses[name] for name, fraction in weights.items()),
        "losses": losses,
        "plateau_rows": dict(sorted(plateau.items())),
        "sources": dict(sorted(pretrain.counts["sources"].items())),
    }


def score_outcome(scores: Artifact) -> dict[str, Any]:
    """avg@k of the only task set, its thinking fraction, both per family, and each problem's mean in order of ids."""
    from thinkling.generate.rollouts import read_rollouts

    (score,) = json.loads(scores.file("scores.json").read_text(encoding="utf-8"))
    store = scores.file(f"rollouts/{score['task_set']}")
    rollouts = [r for path in sorted(store.glob("*.parquet")) for r in read_rollouts(path)]
    right: dict[str, list[bool]] = {}
    for r in rollouts:
        right.setdefault(r.problem_id, []).append(r.right)
    families = {
        family: thinking((r.thinks, r.right) for r in rollouts if r.family == family) for family in score["per_family"]
    }
    return {
        "value": score["mean"],
        "thinking_fraction": score["thinking_fraction"],
        "accuracy_thinking": score["accuracy_thinking"],
        "per_family": score["per_family"],
        "families": {f: [t.samples, t.thinking, t.right_thinking, t.right_direct] for f, t in families.items()},
        "problems": [sum(right[i]) / len(right[i]) for i in sorted(right)],
    }


def thinking(samples: Iterable[tuple[bool, bool]]) -> Thinking:
    """Counts of (thinks, right)."""
    counts = Counter((bool(thinks), bool(right)) for thinks, right in samples)
    return Thinking(
        samples=counts.total(),
        thinking=counts[True, True] + counts[True, False],
        right_thinking=counts[True, True],
        right_direct=counts[False, True],
    )


def seconds(artifacts: Mapping[str, Artifact], stages: Iterable[str]) -> dict[str, float]:
    """Wall seconds of stages, as measured by the process that ran them."""
    return {name: artifacts[name].manifest["recorded"]["wall_seconds"] for name in stages}
