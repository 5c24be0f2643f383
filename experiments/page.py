"""experiment.html: a self-contained page about an experiment, rendered from its experiment.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import PackageLoader
from markupsafe import Markup

from thinkling.data.atomic import replacing
from thinkling.errors import UserError
from thinkling.report.charts import Scale, dodge, label, line, path, scale_for, svg, tag, x_axis, y_axis
from thinkling.report.templates import templates
from thinkling.report.text import seconds

DATA, PAGE = "experiment.json", "experiment.html"
WIDTH = 1080
PARTS = {"more_often": "thinks more often", "better": "thinks better", "direct": "answers at once better"}


def write(directory: Path) -> Path:
    """Writes `experiment.html` next to the experiment.json of a folder and returns its path.

    Raises UserError if experiment.json is missing or cannot be read.
    """
    try:
        report = json.loads((directory / DATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / DATA} cannot be read ({error}); run python -m experiments") from error
    target = directory / PAGE
    with replacing(target) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    return target


def render(report: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = templates(PackageLoader("experiments", "."))
    environment.filters.update(seconds=seconds)
    return environment.get_template("experiment.html").render(
        report=report,
        values=values_chart(report),
        differences=differences_chart(report),
        splits=[(one, mean_split(one["split"])) for one in report["comparisons"] if "split" in one],
        parts=PARTS,
        scored=any("thinking_fraction" in arm["seeds"][0] for arm in report["arms"]),
        matched=any("token_passes" in arm["seeds"][0] for arm in report["arms"]),
        shown=shown,
        mean=_mean,
        interval=interval,
    )


def interval(one: Mapping[str, Any]) -> str:
    """`+0.012 … +0.034`, or a dash for a single seed."""
    return "–" if one["low"] is None else f"{one['low']:+.3f} … {one['high']:+.3f}"


def shown(arm: Mapping[str, Any], key: str, form: str) -> str:
    """One of an arm's other figures, averaged over seeds; empty if no seed has it."""
    values = [seed[key] for seed in arm["seeds"] if seed.get(key) is not None]
    return form.format(_mean(values)) if values else ""


def mean_split(split: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The parts of a gain, averaged over seeds."""
    return {key: _mean([s[key] for s in split]) for key in ("total", *PARTS)}


def values_chart(report: Mapping[str, Any]) -> Markup:
    """One column per arm; a line joins the values of a seed, and a bar is the mean of the arm."""
    arms, height, top, left, right = report["arms"], 330, 22, 64, WIDTH - 120
    scale = replace(scale_for([v for arm in arms for v in arm["values"]], height - 34, top), log=False)
    step = (right - left) / len(arms)
    at = [left + step * (i + 0.5) for i in range(len(arms))]
    parts = y_axis(scale, left, right)
    for seed in range(len(report["seeds"])):
        points = [(x, scale(arm["values"][seed])) for x, arm in zip(at, arms, strict=True)]
        parts.append(path(points, "--s8"))
        parts += [tag("circle", cx=x, cy=y, r=3.5, style="fill:var(--s1)") for x, y in points]
    for x, arm in zip(at, arms, strict=True):
        y = scale(_mean(arm["values"]))
        parts.append(tag("line", x1=x - 26, y1=y, x2=x + 26, y2=y, style="stroke:var(--s2);stroke-width:3"))
        parts.append(label(x, height - 10, arm["name"], "t b", "middle"))
    ends = dodge([scale(arms[-1]["values"][i]) for i in range(len(report["seeds"]))], 15, top, height - 30)
    parts += [label(at[-1] + 32, y + 4, f"seed {s}", "m") for s, y in zip(report["seeds"], ends, strict=True)]
    return svg(WIDTH, height, f"{report['metric']} of every arm and seed", *parts)


def differences_chart(report: Mapping[str, Any]) -> Markup:
    """One row per comparison: points are seeds, the bar is the mean, the line its interval; 0 is marked."""
    rows, row, left, right = report["comparisons"], 46, 250, WIDTH - 30
    ends = [v for one in rows for v in (*one["differences"], one["low"], one["high"]) if v is not None]
    scale: Scale = scale_for([0.0, *ends, -max(map(abs, ends)) * 0.02], left, right)
    height = 12 + row * len(rows) + 30
    parts = [line(scale(0), 8, scale(0), height - 30, "axis"), *x_axis(scale, height - 30, "")]
    for i, one in enumerate(rows):
        y = 12 + row * (i + 0.5)
        parts.append(label(0, y + 5, f"{one['arm']} − {one['against']}", "t b"))
        if one["low"] is not None:
            parts.append(line(scale(one["low"]), y, scale(one["high"]), y, "interval"))
        x = scale(one["mean"])
        parts.append(tag("line", x1=x, y1=y - 12, x2=x, y2=y + 12, style="stroke:var(--s2);stroke-width:3"))
        parts += [tag("circle", cx=scale(d), cy=y, r=3.5, style="fill:var(--ink)") for d in one["differences"]]
    return svg(WIDTH, height, "Differences by seed, with mean and interval", *parts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
