"""The figures of the report: pipeline, scores, training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from thinkling.report.charts import (
    Bin,
    Scale,
    band,
    bins,
    dodge,
    label,
    line,
    path,
    scale_for,
    source_colours,
    svg,
    tag,
    x_axis,
    y_axis,
)
from thinkling.report.read import RunView, Stage, TrainingLog
from thinkling.report.text import megabytes, seconds, short

WIDTH = 1080
LINE_BINS, AREA_BINS = 360, 160
KIND_COLOUR = {"model": "--s3", "scores": "--s2"}


def flow(stage: Stage) -> list[str]:
    """What went through a stage."""
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


def wrap(parts: list[str], width: int, n_lines: int) -> list[str]:
    """Parts joined into lines of at most `width` characters; what does not fit is left out, with a sign."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        elif len(lines) == n_lines:
            lines[-1] = clip(f"{lines[-1]} · …", width)
            break
        else:
            lines.append(clip(part, width))
    return lines


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ·,") + "…"


def pipeline(run: RunView) -> Markup:
    """Stages from top to bottom with the arrows between them, what went through, time, peak memory, score."""
    row, top, spine = 48, 34, 76
    at = {stage.path.name: top + row * i + row / 2 for i, stage in enumerate(run.stages)}
    x = {s.path.name: spine + (22 if s.produces == "scores" else 0) for s in run.stages}
    parts = [label(c, 18, text, "m") for c, text in ((124, "stage"), (286, "what went through"), (664, "time"))]
    parts += [label(792, 18, "peak memory", "m"), label(920, 18, "score, 0 to 1", "m")]
    longest = max((s.wall_seconds for s in run.stages), default=1) or 1
    most = max((s.peak_mb for s in run.stages), default=1) or 1
    for stage in run.stages:
        for given in stage.manifest.get("inputs", {}).values():
            if given["artifact"] in at:
                parts.append(_arrow(x, at, given["artifact"], stage.path.name))
    for stage in run.stages:
        y, name = at[stage.path.name], stage.path.name
        colour = KIND_COLOUR.get(stage.produces, "--s1")
        parts += [
            tag("circle", cx=x[name], cy=y, r=5 if stage.produces == "scores" else 7, style=f"fill:var({colour})"),
            label(124, y, clip(stage.name, 22), "t b"),
            label(124, y + 15, f"{stage.kind} → {stage.produces}", "m"),
            *_lines(286, y, wrap(flow(stage), 52, 2)),
            *_bar(664, y, stage.wall_seconds / longest, seconds(stage.wall_seconds)),
            *_bar(792, y, stage.peak_mb / most, megabytes(stage.peak_mb)),
            line(112, y + row / 2, WIDTH, y + row / 2, "rule"),
        ]
        if stage.scores:
            parts += _score(stage.scores[0], 920, y)
    head = tag("path", d="M0 0L8 4L0 8Z", class_="head")
    size = {"markerWidth": 7, "markerHeight": 7, "refX": 7, "refY": 4, "viewBox": "0 0 8 8", "orient": "auto"}
    parts.insert(0, tag("defs", tag("marker", head, id="arrow", **size)))
    return svg(WIDTH, top + row * len(run.stages) + 8, "The stages of the run and what passed between them", *parts)


def _arrow(x: Mapping[str, float], at: Mapping[str, float], giver: str, taker: str) -> Markup:
    """From one stage down to another; around those in between where there are any."""
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
    return [label(x, y + 5 - 8 * (len(lines) - 1) + 16 * i, text, "m f") for i, text in enumerate(lines)]


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


def measure(score: dict[str, Any]) -> str:
    """What a score is the mean of: samples that are right, or the grades that a rule gives them."""
    return "mean grade" if score.get("measure") == "grade" else "avg"


def score_chart(scores: list[dict[str, Any]]) -> Markup:
    """Mean and interval of every checkpoint, and how often it thinks, one task set below the other."""
    row, left, right = 34, 240, 800
    scale, parts, y = Scale(0, 1, left, right), [], 30.0
    for task_set in dict.fromkeys(s["task_set"] for s in scores):
        found = [s for s in scores if s["task_set"] == task_set]
        ks = ", ".join(dict.fromkeys(f"{measure(s)}@{s['k']}" for s in found if "k" in s))
        parts.append(label(0, y, f"{task_set}{f' ({ks})' if ks else ''}", "t b"))
        bottom = y + 14 + row * len(found)
        for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
            at = scale(tick)
            parts += [line(at, y + 10, at, bottom), label(at, bottom + 16, f"{tick:g}", "m", "middle")]
        for i, score in enumerate(found):
            at = y + 14 + row * i + row / 2
            parts += [
                label(0, at, clip(score["checkpoint"], 26), "t"),
                label(0, at + 14, f"renderer {score['renderer']}", "m"),
                *score_marks(score, scale, at),
                label(right + 24, at + 4, f"{score['mean']:.3f}", "t b n"),
                label(right + 74, at + 4, f"{score['low']:.3f}–{score['high']:.3f}", "m n"),
            ]
            if score.get("thinking_fraction") is not None:
                parts.append(label(right + 184, at + 4, f"thinks {score['thinking_fraction']:.0%}", "m n"))
        y = bottom + 50
    parts += [
        tag("circle", cx=left + 6, cy=y - 16, r=5, class_="mean"),
        line(left - 6, y - 16, left + 18, y - 16, "interval"),
        label(left + 26, y - 12, "mean and 95% interval", "m"),
        diamond(left + 206, y - 16),
        label(left + 218, y - 12, "share of samples that think", "m"),
    ]
    return svg(WIDTH, y, "Scores by checkpoint", *parts)


def score_marks(score: dict[str, Any], scale: Scale, y: float) -> list[Markup]:
    """Track, thinking fraction, interval and mean of one score."""
    parts = [line(scale(0), y, scale(score["mean"]), y, "lead")]
    fraction = score.get("thinking_fraction")
    if fraction is not None:
        parts.append(diamond(scale(fraction), y))
    return [
        *parts,
        line(scale(score["low"]), y, scale(score["high"]), y, "interval"),
        tag("circle", cx=scale(score["mean"]), cy=y, r=5, class_="mean"),
    ]


def diamond(x: float, y: float, r: float = 5.5) -> Markup:
    return tag("path", d=f"M{x - r:.1f} {y:.1f}l{r} {-r}l{r} {r}l{-r} {r}Z", class_="think")


def training(log: TrainingLog) -> Markup:
    """Loss, learning rate and mixture over tokens, one below the other, phases marked."""
    left, right = 64, 872
    x = Scale(0, log.tokens[-1], left, right)
    parts: list[Markup] = []
    named = [p for p in log.phases if p.name]
    y = 44.0 if named else 12.0
    deep = max(120.0, 26.0 + 18 * len(log.sources))
    for title, key, height in (("loss", "loss", 190), ("learning rate", "lr", 84)):
        parts += curve(log, key, title, x, y, height)
        y += height + 34
    if log.sources:
        parts += mixture(log, x, y, deep, legend=right + 24)
        y += deep + 4
    else:
        y -= 26
    parts += x_axis(x, y, log.unit)
    for phase in named[1:]:
        parts.append(line(x(phase.begin), 24, x(phase.begin), y, "phase"))
    tier = 0
    for i, phase in enumerate(named):
        room = x(phase.end) - x(phase.begin)
        text = clip(phase.name, max(int(room / 6.2), 12))
        tier = 12 if i and tier == 0 and x(named[i - 1].end) - x(named[i - 1].begin) < 70 else 0
        parts.append(label(x(phase.begin) + (4 if i else 0), 12 + tier, text, "m"))
    return svg(WIDTH, y + 30, "Loss, learning rate and mixture over " + log.unit, *parts)


def curve(log: TrainingLog, key: str, title: str, x: Scale, top: float, height: float) -> list[Markup]:
    """One metric: mean of each stretch of steps as a line, its extremes as a band."""
    found = bins(log.tokens, log.column(key), LINE_BINS)
    spread = [v for b in found for v in (b.low, b.high)]
    scale = scale_for(spread, top + height, top, zero=key == "lr")
    if key == "lr":
        places = [(x(t), scale(v)) for t, v in zip([0.0, *log.tokens[:-1]], log.column(key), strict=True)]
        drawn = [path(thin(places, 600), "--s5")]
    else:
        drawn = mean_and_spread(found, x, scale)
    last = next((v for v in reversed(log.column(key)) if math.isfinite(v)), math.nan)
    return [
        *y_axis(scale, x.start, x.stop, 4 if height > 100 else 3),
        *drawn,
        label(x.stop + 24, top + 12, title, "t b"),
        label(x.stop + 24, top + 28, f"last step {last:.4g}", "m"),
        label(x.stop + 24, top + 44, "logarithmic" if scale.log else "", "m"),
    ]


def mean_and_spread(found: list[Bin], x: Scale, y: Scale) -> list[Markup]:
    """Stretches as a line of their means over a band of their extremes."""
    if not found:
        return []
    upper, lower = [(x(b.middle), y(b.high)) for b in found], [(x(b.middle), y(b.low)) for b in found]
    return [band(upper, lower, "--s1", "spread"), path([(x(b.middle), y(b.mean)) for b in found], "--s1")]


def thin(points: list[tuple[float, float]], n: int) -> list[tuple[float, float]]:
    """About `n` of the points, first and last among them."""
    step = max(len(points) // n, 1)
    return [*points[::step], points[-1]]


def mixture(log: TrainingLog, x: Scale, top: float, height: float, legend: float) -> list[Markup]:
    """Shares of rows by source, stacked. No stretch crosses from one phase into the next."""
    colours, parts = source_colours(log.sources), []
    y = Scale(0, 1, top + height, top)
    for phase in log.phases:
        steps = phase.last - phase.first
        n = max(1, min(steps, round(AREA_BINS * (phase.end - phase.begin) / log.tokens[-1])))
        edges = [phase.first + i * steps // n for i in range(n + 1)]
        fractions = [_fractions(log, a, b) for a, b in pairwise(edges)]
        ends = [log.tokens[e - 1] if e else 0.0 for e in edges]
        base = [0.0] * n
        for source in log.sources:
            level = [b + s.get(source, 0.0) for b, s in zip(base, fractions, strict=True)]
            if any(s.get(source) for s in fractions):
                steps_up = [(x(e), y(v)) for i, v in enumerate(level) for e in (ends[i], ends[i + 1])]
                steps_down = [(x(e), y(v)) for i, v in enumerate(base) for e in (ends[i], ends[i + 1])]
                parts.append(band(steps_up, steps_down, colours[source], "area"))
            base = level
    for fraction in (0, 0.5, 1):
        parts.append(label(x.start - 8, y(fraction) + 4, f"{fraction:.0%}", "m", "end"))
    parts.append(label(legend, top + 10, "mixture, share of rows", "t b"))
    for i, source in enumerate(log.sources):
        at = top + 28 + 18 * i
        parts.append(tag("rect", x=legend, y=at - 9, width=11, height=11, rx=2, style=f"fill:var({colours[source]})"))
        parts.append(label(legend + 18, at, clip(source, 24), "t"))
    return parts


def _fractions(log: TrainingLog, first: int, last: int) -> dict[str, float]:
    counts: dict[str, int] = {}
    for row in log.rows[first:last]:
        for source, n in (row.get("rows") or {}).items():
            counts[source] = counts.get(source, 0) + n
    total = sum(counts.values())
    return {source: n / total for source, n in counts.items()} if total else {}


def small(log: TrainingLog, key: str) -> Markup:
    """Any other metric, small."""
    width, height, left = 344, 110, 52
    x = Scale(0, log.tokens[-1], left, width - 8)
    found = bins(log.tokens, log.column(key), 150)
    scale = scale_for([v for b in found for v in (b.low, b.high)], height, 26)
    drawn = mean_and_spread(found, x, scale)
    parts = [*y_axis(scale, left, width - 8, 3), *drawn, *x_axis(x, height, log.unit, 3)]
    return svg(width, height + 26, key, label(0, 12, key.replace("_", " "), "t b"), *parts)


def validation(phases: list[dict[str, Any]]) -> Markup:
    """Loss on validation documents by source at the end of every phase."""
    left, right, top, bottom = 64, 560, 16, 250
    sources = list(dict.fromkeys(k for p in phases for k in p if k != "phase"))
    colours = source_colours(sources)
    y = scale_for([p[s] for p in phases for s in sources if s in p], bottom, top)
    x = Scale(0, max(len(phases) - 1, 1), left + 40, right - 40)
    parts = y_axis(y, left, right)
    for i, phase in enumerate(phases):
        parts.append(label(x(i), bottom + 22 + 16 * (i % 2), clip(str(phase["phase"]), 26), "m", "middle"))
    ends = []
    for source in sources:
        points = [(x(i), y(p[source])) for i, p in enumerate(phases) if source in p]
        parts.append(path(points, colours[source]))
        parts += [tag("circle", cx=px, cy=py, r=3.5, style=f"fill:var({colours[source]})") for px, py in points]
        ends.append(points[-1][1])
    for source, at in zip(sources, dodge(ends, 17, top, bottom), strict=True):
        parts.append(label(right - 26, at + 4, clip(source, 26), "t"))
    return svg(760, bottom + 46, "Validation loss by phase", *parts)
