"""What is read off an arm's finished artifacts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from thinkling.data.artifact import Artifact
from thinkling.pipeline.evidence.arms import HQ
from thinkling.pipeline.evidence.intervals import Thinking


def loss_outcome(pretrain: Artifact) -> dict[str, Any]:
    """Held-out losses after the last phase, and the rows that every source gave before decay and in all.

    `value` weighs the high-quality sources as the mixtures do.
    """
    last = len(list((pretrain.path / "holdout").glob("*.json"))) - 1
    losses = json.loads(pretrain.file(f"holdout/{last}.json").read_text(encoding="utf-8"))
    decay = losses.pop("phase")
    plateau: Counter[str] = Counter()
    for line in pretrain.file("metrics.jsonl").read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        if step["phase"] != decay:
            plateau.update(step["rows"])
    return {
        "value": sum(share * losses[name] for name, share in HQ.items()),
        "losses": losses,
        "plateau_rows": dict(sorted(plateau.items())),
        "sources": dict(sorted(pretrain.counts["sources"].items())),
    }


def score_outcome(scores: Artifact) -> dict[str, Any]:
    """avg@k of the only task set, how much of it thinks, per family; and each problem's mean, ordered by its id."""
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
        "thinking_share": score["thinking_share"],
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
    """Wall seconds of stages, as the process that made them measured."""
    return {name: artifacts[name].manifest["recorded"]["wall_seconds"] for name in stages}
