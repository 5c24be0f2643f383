"""The summary of a run: summary.json, and the tables of scores and stages in the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from thinkling.data.artifact import Artifact, write_json
from thinkling.data.ledger import NOT_DRAWN
from thinkling.pipeline.rejections import rejections

if TYPE_CHECKING:
    from thinkling.pipeline.recipe import Recipe
    from thinkling.pipeline.runner import Run

BAR_WIDTH = 40
LONGEST_COUNT = 24
"""Minimum width of the column of counts, so that no number is cut."""


def summarise(run: Run, wall_seconds: float) -> dict[str, Any]:
    """Return the contents of summary.json. The `wall_seconds` of a stage are those of the run that wrote the stage's
    artifact."""
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
    """Return the scores of all evaluate stages, in the order of the stages."""
    found = []
    for name, artifact in done.items():
        stage = recipe.stages[name]
        if stage.produces == "scores":
            for score in json.loads(artifact.file("scores.json").read_text(encoding="utf-8")):
                found.append({"checkpoint": stage.inputs["model"], **score})
    return found


def write(run: Run, wall_seconds: float) -> dict[str, Any]:
    """Write summary.json to the run's folder and return its contents."""
    summary = summarise(run, wall_seconds)
    write_json(run.directory / "summary.json", summary)
    return summary


def show(summary: dict[str, Any], console: Console, run: str | None = None) -> None:
    """Print a summary: scores with their intervals, then the time, memory and counts of each stage and its rejections.

    `run`: the run as specified on the command line; by default the recipe's name.
    """
    if summary["scores"]:
        console.print(score_table(summary["scores"], console.width))
    for entry in summary["scores"]:
        if won := entry.get("win_rate"):
            interval = f"{won['low']:.3f}–{won['high']:.3f}"
            console.print(
                f"{entry['checkpoint']} against the baseline on {entry['task_set']}: wins {won['mean']:.3f} "
                f"({interval}) of the comparisons, judged by the grading rule",
                highlight=False,
                soft_wrap=True,
            )
        if found := entry.get("difference"):
            console.print(
                f"{entry['checkpoint']} against the baseline on {entry['task_set']}: {found['mean']:+.3f} "
                f"({found['low']:+.3f} to {found['high']:+.3f})",
                highlight=False,
                soft_wrap=True,
            )
    console.print(stage_table(summary))
    for name, reason in summary["skipped"].items():
        console.print(f"{name}: skipped: {reason}", style="yellow", highlight=False)
    for stage in summary["stages"]:
        for line in turned_away(stage["name"], stage["counts"]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if (command := how_to_look(summary, run or summary["recipe"])) is not None:
        console.print(f"to see the rejected records: `{command}`", highlight=False, markup=False, soft_wrap=True)


def stage_table(summary: dict[str, Any]) -> Table:
    """Return a table of the time, the peak memory and the counts of each stage."""
    table = Table(
        title=f"{summary['recipe']}, seed {summary['seed']}: {summary['wall_seconds']:.0f} s", title_justify="left"
    )
    table.add_column("stage", overflow="fold")
    for column in ("seconds", "peak MB"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("counts", min_width=LONGEST_COUNT)
    for stage in summary["stages"]:
        flat = {k: v for k, v in stage["counts"].items() if isinstance(v, int | float | str)}
        counts = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in flat.items())
        table.add_row(stage["name"], f"{stage['wall_seconds']:,.1f}", f"{stage['peak_rss_mb']:,.0f}", counts)
    return table


def turned_away(stage: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line such as `curate: pages: 142 in, 135 kept, 7 rejected: duplicate 7` per source with rejections."""
    yield from map(str, rejections(stage, counts))


def how_to_look(summary: dict[str, Any], run: str) -> str | None:
    """Return the `show` command for the most frequent reason in the first stage with rejections, or None if there is no
    such reason."""
    for stage in summary["stages"]:
        for found in rejections(stage["name"], stage["counts"]):
            for reason, _ in found.most_frequent_first:
                if reason != NOT_DRAWN:
                    return f"thinkling show {shlex.quote(run)} {stage['name']} --reason {shlex.quote(reason)}"
    return None


def score_table(entries: list[dict[str, Any]], width: int) -> Table:
    """Return a table of scores that fits into `width` columns. Long names are folded, so that no number is cut.

    If there is room, each row has a bar, with `█` up to the mean and `─` over the interval.
    """
    k = ", ".join(sorted({f"{'mean grade' if e.get('measure') == 'grade' else 'avg'}@{e['k']}" for e in entries}))
    table = Table(title=f"scores ({k}; 95% bootstrap interval over problems)", title_justify="left")
    cells = {
        "checkpoint": [e["checkpoint"] for e in entries],
        "task set": [e["task_set"] for e in entries],
        "mean": [f"{e['mean']:.3f}" for e in entries],
        "interval": [f"{e['low']:.3f}–{e['high']:.3f}" for e in entries],
        "thinks": [f"{e['thinking_fraction']:.0%}" for e in entries],
        "asked by": [e["renderer"] for e in entries],
        "right if it thinks": [_or_dash(e.get("accuracy_thinking")) for e in entries],
        "0 … 1": [bar(e["mean"], e["low"], e["high"]) for e in entries],
    }
    for column in ("0 … 1", "right if it thinks", "asked by"):
        widths = [max(map(len, (name, *values))) for name, values in cells.items()]
        if sum(widths) + 3 * len(widths) + 1 > width:
            del cells[column]
    for column in cells:
        numeric = column in ("mean", "interval", "thinks", "right if it thinks")
        table.add_column(column, no_wrap=numeric or column == "0 … 1", overflow="fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return table


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def bar(mean: float, low: float, high: float, width: int = BAR_WIDTH) -> str:
    """Draw a bar of `width` characters over the range from 0 to 1."""
    cells = []
    for i in range(width):
        at = (i + 0.5) / width
        cells.append("─" if low <= at <= high else "█" if at < mean else "·")
    return "".join(cells)
