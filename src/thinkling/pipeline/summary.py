"""The result of a run: summary.json, a table of stages, and the scores as a table and a plot in the terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from thinkling.data.artifact import Artifact, write_json
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.runner import Run

BAR_WIDTH = 40


def summarise(run: Run, wall_seconds: float) -> dict[str, Any]:
    """What stands in summary.json. A stage's wall_seconds are those of the run that made it."""
    recipe, done = run.recipe, run.finished()
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "wall_seconds": round(wall_seconds, 2),
        "skipped": recipe.skipped(),
        "stages": [
            {
                "name": name,
                "kind": recipe.stages[name].kind,
                "wall_seconds": artifact.manifest["recorded"]["wall_seconds"],
                "peak_rss_mb": artifact.manifest["recorded"]["peak_rss_mb"],
                "counts": artifact.counts,
            }
            for name, artifact in done.items()
        ],
        "scores": scores(recipe, done),
    }


def scores(recipe: Recipe, done: dict[str, Artifact]) -> list[dict[str, Any]]:
    """The scores of all evaluate stages, in the order of the stages."""
    found = []
    for name, artifact in done.items():
        stage = recipe.stages[name]
        if stage.produces == "scores":
            for score in json.loads(artifact.file("scores.json").read_text(encoding="utf-8")):
                found.append({"checkpoint": stage.inputs["model"], **score})
    return found


def write(run: Run, wall_seconds: float) -> dict[str, Any]:
    """Writes summary.json into the run's folder and gives it back."""
    summary = summarise(run, wall_seconds)
    write_json(run.directory / "summary.json", summary)
    return summary


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints a summary: stages, then scores with their intervals."""
    table = Table(
        title=f"{summary['recipe']}, seed {summary['seed']}: {summary['wall_seconds']:.0f} s", title_justify="left"
    )
    for column, right in (("stage", False), ("kind", False), ("seconds", True), ("peak MB", True), ("counts", False)):
        table.add_column(column, justify="right" if right else "left")
    for stage in summary["stages"]:
        flat = {k: v for k, v in stage["counts"].items() if isinstance(v, int | float | str)}
        counts = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in flat.items())
        table.add_row(
            stage["name"], stage["kind"], f"{stage['wall_seconds']:.1f}", f"{stage['peak_rss_mb']:.0f}", counts
        )
    console.print(table)
    for name, reason in summary["skipped"].items():
        console.print(f"{name}: skipped: {reason}", style="yellow", highlight=False)
    if summary["scores"]:
        console.print(score_table(summary["scores"]))
    for entry in summary["scores"]:
        if won := entry.get("win_rate"):
            interval = f"{won['low']:.3f}–{won['high']:.3f}"
            console.print(
                f"{entry['checkpoint']} against the baseline on {entry['task_set']}: wins {won['mean']:.3f} "
                f"({interval}) of the comparisons, by the rule",
                highlight=False,
                soft_wrap=True,
            )


def score_table(entries: list[dict[str, Any]]) -> Table:
    """Scores as a table with a bar: `█` up to the mean, `─` over the interval."""
    k = ", ".join(sorted({f"{'mean grade' if e.get('measure') == 'grade' else 'avg'}@{e['k']}" for e in entries}))
    table = Table(title=f"scores ({k}; 95% bootstrap interval over problems)", title_justify="left")
    for column in ("checkpoint", "task set", "asked by", "mean", "interval", "thinks", "right if it thinks", "0 … 1"):
        table.add_column(column, no_wrap=True)
    for e in entries:
        thinking = e.get("accuracy_thinking")
        table.add_row(
            e["checkpoint"],
            e["task_set"],
            e["renderer"],
            f"{e['mean']:.3f}",
            f"{e['low']:.3f}–{e['high']:.3f}",
            f"{e['thinking_fraction']:.0%}",
            "–" if thinking is None else f"{thinking:.3f}",
            bar(e["mean"], e["low"], e["high"]),
        )
    return table


def bar(mean: float, low: float, high: float, width: int = BAR_WIDTH) -> str:
    """A bar of `width` characters for 0–1."""
    cells = []
    for i in range(width):
        at = (i + 0.5) / width
        cells.append("─" if low <= at <= high else "█" if at < mean else "·")
    return "".join(cells)
