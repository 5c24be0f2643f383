"""The pipeline of a run, with the data that each stage processed: a graph for wide screens, a list for narrow ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from thinkling.report.charts import Scale, label, line, svg, tag
from thinkling.report.read import RunView, Stage
from thinkling.report.text import clip, megabytes, seconds, short, wrap

WIDTH = 1080
KIND_COLOUR = {"model": "--s3", "scores": "--s2"}
ROW, LINE, FLOW_CHARACTERS = 48, 16, 52
"""Height of a row with up to two lines, height of a line, and number of characters per line that fit beside the
time."""


def flow(stage: Stage) -> list[str]:
    """Describe the data that a stage processed, as short phrases."""
    counts = stage.counts
    parts = []
    if {"in", "kept"} <= counts.keys():
        parts.append(f"{short(counts['in'])} in, {short(counts['kept'])} kept")
        refused = sum((counts.get("rejected") or {}).values())
        if refused:
            parts.append(f"{short(refused)} rejected")
    if {"jobs", "kept"} <= counts.keys():
        parts.append(f"{short(counts['kept'])} kept")
    for key, value in counts.items():
        if isinstance(value, dict) and {"problems", "kept"} <= value.keys():
            parts.append(f"{key}: {short(value['kept'])} of {short(value['problems'])} problems in the band")
        elif isinstance(value, dict) and {"problems", "samples"} <= value.keys():
            parts.append(f"{key}: {short(value['problems'])} problems, {short(value['samples'])} samples")
        elif isinstance(value, int | float) and not isinstance(value, bool) and value and key not in ("in", "kept"):
            parts.append(f"{short(value)} {key.replace('_', ' ')}")
    return parts


def steps(run: RunView) -> list[dict[str, Any]]:
    """Return the rows of the list of stages: for each stage, the names of its input stages, its time as a percentage of
    the longest stage's time, and its first score."""
    longest = max((s.wall_seconds for s in run.stages), default=1) or 1
    names = {stage.path.name: stage.name for stage in run.stages}
    return [
        {
            "stage": stage,
            "colour": KIND_COLOUR.get(stage.produces, "--s1"),
            "read": [names[a] for a in _read(stage) if a in names],
            "flow": flow(stage),
            "time": 100 * stage.wall_seconds / longest,
            "score": stage.scores[0] if stage.scores else None,
        }
        for stage in run.stages
    ]


def _read(stage: Stage) -> list[str]:
    """Return the folder names of the artifacts that a stage read."""
    return list(dict.fromkeys(given["artifact"] for given in stage.manifest.get("inputs", {}).values()))


def pipeline(run: RunView) -> Markup:
    """Draw the stages from top to bottom, with arrows between them, the data that each stage processed, its time, its
    peak memory and its score."""
    top, spine, edge = 34.0, 76, 34.0
    lines = {stage.path.name: wrap(flow(stage), FLOW_CHARACTERS) for stage in run.stages}
    at: dict[str, float] = {}
    ends: dict[str, float] = {}
    for name, texts in lines.items():
        height = max(ROW, LINE * len(texts) + LINE)
        at[name], ends[name] = edge + height / 2, edge + height
        edge += height
    x = {s.path.name: spine + (22 if s.produces == "scores" else 0) for s in run.stages}
    parts = [label(c, top - 16, text, "m") for c, text in ((124, "stage"), (286, "input and output"), (664, "time"))]
    parts += [label(792, top - 16, "peak memory", "m"), label(920, top - 16, "score, 0 to 1", "m")]
    longest = max((s.wall_seconds for s in run.stages), default=1) or 1
    most = max((s.peak_mb for s in run.stages), default=1) or 1
    parts += [_arrow(x, at, given, s.path.name) for s in run.stages for given in _read(s) if given in at]
    for stage in run.stages:
        y, name = at[stage.path.name], stage.path.name
        colour = KIND_COLOUR.get(stage.produces, "--s1")
        parts += [
            tag("circle", cx=x[name], cy=y, r=5 if stage.produces == "scores" else 7, style=f"fill:var({colour})"),
            label(124, y, clip(stage.name, 22), "t b"),
            label(124, y + 15, f"{stage.kind} → {stage.produces}", "m"),
            *_lines(286, y, lines[name]),
            *_bar(664, y, stage.wall_seconds / longest, seconds(stage.wall_seconds)),
            *_bar(792, y, stage.peak_mb / most, megabytes(stage.peak_mb)),
            line(112, ends[name], WIDTH, ends[name], "rule"),
        ]
        if stage.scores:
            parts += _score(stage.scores[0], 920, y)
    head = tag("path", d="M0 0L8 4L0 8Z", class_="head")
    size = {"markerWidth": 7, "markerHeight": 7, "refX": 7, "refY": 4, "viewBox": "0 0 8 8", "orient": "auto"}
    parts.insert(0, tag("defs", tag("marker", head, id="arrow", **size)))
    return svg(WIDTH, edge + 8, "The stages of the run and the data passed between them", *parts)


def _arrow(x: Mapping[str, float], at: Mapping[str, float], giver: str, taker: str) -> Markup:
    """Draw an arrow from one stage down to another. The arrow passes around any stages in between."""
    x1, y1, x2, y2 = x[giver], at[giver] + 8, x[taker], at[taker] - 9
    between = [n for n, y in at.items() if at[giver] < y < at[taker] and x[n] == 76]
    bend = min(12 + 13 * len(between), 66) if between else 0
    if bend:
        y1, y2 = at[giver] + 4, at[taker] - 4
        d = f"M{x1 - 7:g} {y1:g}C{x1 - 7 - bend:g} {y1 + 26:g} {x2 - 9 - bend:g} {y2 - 26:g} {x2 - 9:g} {y2:g}"
    elif x1 == x2:
        d = f"M{x1:g} {y1:g}L{x2:g} {y2:g}"
    else:
        d = f"M{x1:g} {y1:g}C{x1:g} {y1 + 18:g} {x2:g} {y2 - 22:g} {x2:g} {y2 + 3:g}"
    return tag("path", d=d, class_="edge", marker_end="url(#arrow)")


def _lines(x: float, y: float, lines: list[str]) -> list[Markup]:
    return [label(x, y + 5 - LINE / 2 * (len(lines) - 1) + LINE * i, text, "m f") for i, text in enumerate(lines)]


def _bar(x: float, y: float, fraction: float, text: str) -> list[Markup]:
    return [
        tag("rect", x=x, y=y + 5, width=max(100 * fraction, 1.5), height=4, rx=2, class_="bar"),
        label(x, y, text, "t n"),
    ]


def _score(score: dict[str, Any], x: float, y: float) -> list[Markup]:
    scale = Scale(0, 1, x, x + 152)
    return [
        label(x, y, f"{score['mean']:.3f}", "t b n"),
        label(x + 48, y, f"{score['low']:.3f}–{score['high']:.3f}", "m n"),
        line(scale(0), y + 9, scale(1), y + 9, "track"),
        line(scale(score["low"]), y + 9, scale(score["high"]), y + 9, "interval"),
        tag("circle", cx=scale(score["mean"]), cy=y + 9, r=4, class_="mean"),
    ]
