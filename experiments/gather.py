"""Results of seeds → experiment.json: all values, the differences with their intervals, and the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.experiment import Experiment
from experiments.seed import results_of
from experiments.thinking import Thinking, mean_split, split_gain
from thinkling.data.artifact import write_json
from thinkling.stats import bootstrap_interval, t_interval

FILE = "experiment.json"


def write(experiment: Experiment, results: Sequence[dict[str, Any]], recipe: Path, runs: Path) -> dict[str, Any]:
    """Writes experiment.json for the finished seeds and returns it. `results` are those of `run_seed`."""
    results = sorted(results, key=lambda r: r["seed"])
    seeds = [r["seed"] for r in results]
    titles = {arm.name: arm.title for arm in experiment.arms}
    if experiment.starts_from is not None:
        titles[experiment.starts_from] = "the checkpoint before"
    arms = [
        {
            "name": name,
            "title": titles[name],
            "overrides": results[0]["arms"][name]["overrides"],
            "values": [r["arms"][name]["value"] for r in results],
            "seconds": [sum(r["arms"][name]["seconds"].values()) for r in results],
            "seeds": [_shown(r["arms"][name]) for r in results],
        }
        for name in results[0]["arms"]
    ]
    report = {
        "experiment": experiment.name,
        "question": experiment.question,
        "metric": experiment.metric,
        "unit": experiment.unit,
        "lower_is_better": experiment.lower_is_better,
        "recipe": recipe.name,
        "command": f"python -m experiments {experiment.name} --seeds {','.join(map(str, seeds))} --recipe {recipe}",
        "seeds": seeds,
        "arms": arms,
        "comparisons": [compare(arm, against, results) for arm, against in experiment.pairs],
    }
    write_json(results_of(experiment, runs) / FILE, report)
    return report


def compare(arm: str, against: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`arm` minus `against`: one difference per seed, their mean and 95% t-interval (from two seeds on).

    Scores also get a bootstrap interval over problems for the mean over seeds, and the gain split by thinking.
    """
    differences = [r["arms"][arm]["value"] - r["arms"][against]["value"] for r in results]
    found: dict[str, Any] = {"arm": arm, "against": against, "differences": differences}
    if len(differences) > 1:
        mean, low, high = t_interval(differences)
    else:
        mean, low, high = differences[0], None, None
    found |= {"mean": mean, "low": low, "high": high, "n": len(differences)}
    if "problems" in results[0]["arms"][arm]:
        found["over_problems"] = _over_problems(arm, against, results)
        found["split"] = [_split(r["arms"][against]["families"], r["arms"][arm]["families"]) for r in results]
    return found


def _over_problems(arm: str, against: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_seed = [np.subtract(r["arms"][arm]["problems"], r["arms"][against]["problems"]) for r in results]
    means_P = np.mean(by_seed, axis=0)
    low, high = bootstrap_interval(means_P)
    return {"mean": float(means_P.mean()), "low": low, "high": high, "n": len(means_P)}


def _split(before: dict[str, list[int]], after: dict[str, list[int]]) -> dict[str, float]:
    """The gain of a seed, split by family because families think and fail differently, averaged over families."""
    split = mean_split([split_gain(Thinking(*before[f]), Thinking(*after[f])) for f in before])
    return {"total": split.total, **asdict(split)}


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    """A seed's figures for experiment.json, without the hundreds of values behind the comparisons."""
    return {k: v for k, v in entry.items() if k not in ("problems", "families")}


def show(report: dict[str, Any], console: Console) -> None:
    """Prints arms and comparisons as tables."""
    seeds = report["seeds"]
    table = Table(title=f"{report['experiment']}: {report['metric']}, {report['unit']}", title_justify="left")
    for column in ("arm", "", *(f"seed {s}" for s in seeds), "mean", "thinks", "right if it thinks", "s per seed"):
        table.add_column(column, justify="left" if column in ("arm", "") else "right")
    for arm in report["arms"]:
        table.add_row(
            arm["name"],
            arm["title"],
            *(f"{v:.3f}" for v in arm["values"]),
            f"{_mean(arm['values']):.3f}",
            _mean_of(arm, "thinking_fraction", ".0%"),
            _mean_of(arm, "accuracy_thinking", ".3f"),
            f"{_mean(arm['seconds']):.0f}",
        )
    console.print(table)
    table = Table(title="differences, paired by seed; 95% intervals", title_justify="left")
    for column in ("", *(f"seed {s}" for s in seeds), "mean", "t over seeds", "bootstrap over problems", "split"):
        table.add_column(column, justify="left" if column in ("", "split") else "right")
    for one in report["comparisons"]:
        table.add_row(
            f"{one['arm']} − {one['against']}",
            *(f"{d:+.3f}" for d in one["differences"]),
            f"{one['mean']:+.3f}",
            interval_text(one),
            interval_text(one["over_problems"]) if "over_problems" in one else "",
            split_text(one["split"]) if "split" in one else "",
        )
    console.print(table)


def interval_text(one: dict[str, Any]) -> str:
    """`+0.012 … +0.034`, or a dash for a single seed."""
    return "–" if one["low"] is None else f"{one['low']:+.3f} … {one['high']:+.3f}"


def split_text(split: Sequence[dict[str, float]]) -> str:
    """The parts of a gain, averaged over seeds."""
    parts = {"more_often": "thinks more often", "better": "thinks better", "direct": "answers at once better"}
    return ", ".join(f"{title} {_mean([s[key] for s in split]):+.3f}" for key, title in parts.items())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_of(arm: dict[str, Any], key: str, form: str) -> str:
    values = [seed[key] for seed in arm["seeds"] if seed.get(key) is not None]
    return format(_mean(values), form) if values else ""
