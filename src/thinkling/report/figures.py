"""Training logs as small panels of equal size: one panel per metric, and the mixture and validation loss of
pre-training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from thinkling.report.charts import (
    Bin,
    Point,
    Scale,
    band,
    bins,
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
from thinkling.report.read import Stage, TrainingLog
from thinkling.report.text import clip

PANEL_BINS, AREA_BINS = 150, 160
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 344, 52, 336, 28, 136
"""Width of a panel, and edges of the plot inside it, in pixels. A panel fits a phone screen without scaling, and three
panels fit side by side on a desktop screen."""
TITLES = {
    "lr": "learning rate",
    "thinking_fraction": "thinking share",
    "mean_length": "length, tokens per sample",
    "dpo_accuracy": "chosen preferred to rejected",
    "dpo_margin": "margin of chosen over rejected",
    "mismatch_kl": "KL, sampler to trainer",
}
NEVER_DRAWN = ("step", "loss_tokens")


def in_view(log: TrainingLog) -> tuple[str, ...]:
    """Return the metrics that are shown immediately, depending on what the stage logged. All other metrics are in a
    collapsed section.

    The loss of a policy-gradient step is noise around zero, so a stage with rewards shows the reward instead.
    """
    if "reward" in log.metrics:
        wanted: tuple[str, ...] = ("reward", "thinking_fraction", "mean_length")
    elif "dpo_accuracy" in log.metrics:
        wanted = ("loss", "dpo_accuracy", "dpo_margin")
    else:
        wanted = ("loss", "lr") if log.sources else ("loss",)
    return tuple(key for key in wanted if key in log.metrics)


@dataclass(frozen=True)
class Drawn:
    """A training stage as shown on the page: visible panels, collapsed panels, and the legend of sources and phases."""

    stage: Stage
    panels: list[Markup]
    behind: list[Markup]
    legend: list[tuple[str, str]]
    """Pairs of a source and its colour."""
    phases: list[str]


@dataclass(frozen=True)
class Group:
    """Stages that show the same metrics on the same scales."""

    title: str
    kinds: str
    """Kinds of the group's stages, separated by commas."""
    stages: list[Drawn]
    apart: bool
    """Whether each stage of the group has a row of several panels. If False, each stage has a single panel."""


def groups(stages: Sequence[Stage]) -> list[Group]:
    """Group training stages by their visible metrics. Groups are in the order in which their first stage was
    trained."""
    logs = [(stage, log) for stage in stages if (log := stage.log) is not None]
    found: dict[tuple[str, ...], list[tuple[Stage, TrainingLog]]] = {}
    for stage, log in logs:
        found.setdefault(in_view(log), []).append((stage, log))
    return [_group(keys, members) for keys, members in found.items()]


def _group(keys: tuple[str, ...], members: list[tuple[Stage, TrainingLog]]) -> Group:
    scales = {key: shared_scale(key, [log for _, log in members]) for key in keys}
    single = len(keys) == 1
    drawn = []
    for stage, log in members:
        panels = [panel(log, key, stage.name if single else title_of(key), scales[key]) for key in keys]
        losses = stage.validation
        names = list(dict.fromkeys([*log.sources, *sources_of(losses)]))
        colours = source_colours(names)
        if log.sources:
            panels.append(mixture_panel(log, colours))
        if losses:
            panels.append(validation(losses, colours))
        behind = [panel(log, key, title_of(key)) for key in log.metrics if key not in (*keys, *NEVER_DRAWN)]
        phases = [p.name for p in log.phases if p.name]
        drawn.append(Drawn(stage, panels, behind, list(colours.items()), phases if len(phases) > 1 else []))
    apart = any(len(one.panels) > 1 for one in drawn)
    kinds = ", ".join(dict.fromkeys(stage.kind for stage, _ in members))
    title = kinds if apart or not single else f"{kinds}: {title_of(keys[0])}"
    return Group(members[0][0].name if apart and len(members) == 1 else title, kinds, drawn, apart)


def title_of(key: str) -> str:
    return TITLES.get(key, key.replace("_", " "))


def shared_scale(key: str, logs: Sequence[TrainingLog]) -> Scale:
    """Return a common scale of a metric for several stages. The scale is from 0 to 1 for fractions, and starts at 0 for
    lengths and learning rates."""
    values = [v for log in logs for b in bins(*axis(log)[:1], log.column(key), PANEL_BINS) for v in (b.low, b.high)]
    shares = key in ("thinking_fraction", "dpo_accuracy") or (key == "reward" and all(0 <= v <= 1 for v in values))
    return Scale(0, 1, BOTTOM, TOP) if shares else scale_for(values, BOTTOM, TOP, zero=key in ("lr", "mean_length"))


def axis(log: TrainingLog) -> tuple[list[float], str]:
    """Return the end of each step on the x axis, and the unit of the axis: steps if the log has a reward, otherwise the
    log's own unit (see `TrainingLog.unit`)."""
    if "reward" in log.metrics:
        return [i + 1.0 for i in range(len(log.rows))], "steps"
    return log.tokens, log.unit


def panel(log: TrainingLog, key: str, title: str, scale: Scale | None = None) -> Markup:
    """Draw one metric: the mean over each bin of steps as a line, the extremes of each bin as a band, and the last
    value as text."""
    ends, unit = axis(log)
    x, y = Scale(0, ends[-1], LEFT, RIGHT), scale or shared_scale(key, [log])
    if key == "lr":
        places = [(x(t), y(v)) for t, v in zip([0.0, *ends[:-1]], log.column(key), strict=True)]
        drawn = [path(thin(places, 300), "--s5")]
    else:
        drawn = mean_and_spread(bins(ends, log.column(key), PANEL_BINS), x, y)
    last = next((v for v in reversed(log.column(key)) if math.isfinite(v)), math.nan)
    power = power_of(y)
    remark = f"last {last:.3g}" + (", logarithmic" if y.log else "") + (f", axis × 1e{power}" if power else "")
    parts = [
        *y_axis(y, LEFT, RIGHT, 3, power),
        *drawn,
        *phase_marks(log, x),
        *x_axis(x, BOTTOM, unit, 3),
        label(RIGHT, 12, remark, "m n", "end"),
        label(0, 12, clip(title, 46 - len(remark)), "t b"),
    ]
    return svg(WIDTH, BOTTOM + 26, title, *parts)


def power_of(scale: Scale) -> int:
    """Return the power of ten that is factored out of the tick labels of a linear axis: the exponent of the largest
    tick if all ticks are below 1e-3, else 0. A label such as `1.25e-13` would not fit beside a panel.
    """
    largest = max((abs(tick) for tick in scale.ticks(3)), default=0.0)
    return math.floor(math.log10(largest)) if 0 < largest < 1e-3 and not scale.log else 0


def phase_marks(log: TrainingLog, x: Scale) -> list[Markup]:
    """Mark the beginning and the number of each phase. The list is empty for a log with fewer than two phases."""
    named = [p for p in log.phases if p.name]
    if len(named) < 2:
        return []
    marks: list[Markup] = []
    for i, phase in enumerate(named, 1):
        at, room = x(phase.begin), x(phase.end) - x(phase.begin)
        if i > 1:
            marks.append(line(at, TOP - 8, at, BOTTOM, "phase"))
        if room >= 10:
            marks.append(label(at + 4, TOP, str(i), "m"))
    return marks


def mean_and_spread(found: list[Bin], x: Scale, y: Scale) -> list[Markup]:
    """Draw bins as a line of their means over a band between their extremes."""
    if not found:
        return []
    upper, lower = [(x(b.middle), y(b.high)) for b in found], [(x(b.middle), y(b.low)) for b in found]
    return [band(upper, lower, "--s1", "spread"), path([(x(b.middle), y(b.mean)) for b in found], "--s1")]


def thin(points: list[Point], n: int) -> list[Point]:
    """Return about `n` of the points, including the first and the last."""
    step = max(len(points) // n, 1)
    return [*points[::step], points[-1]]


def mixture_panel(log: TrainingLog, colours: Mapping[str, str]) -> Markup:
    """Draw a panel of each source's share of rows, with the log's own unit on the x axis."""
    x = Scale(0, log.tokens[-1], LEFT, RIGHT)
    parts = [
        *mixture(log, x, TOP, BOTTOM - TOP, colours),
        *phase_marks(log, x),
        *x_axis(x, BOTTOM, log.unit, 3),
        label(0, 12, "mixture, share of rows", "t b"),
    ]
    return svg(WIDTH, BOTTOM + 26, "mixture, share of rows", *parts)


def mixture(log: TrainingLog, x: Scale, top: float, height: float, colours: Mapping[str, str]) -> list[Markup]:
    """Draw each source's share of rows, stacked. No bin crosses the boundary between two phases."""
    parts: list[Markup] = []
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
    return parts + [label(x.start - 8, y(f) + 4, f"{f:.0%}", "m", "end") for f in (0, 0.5, 1)]


def _fractions(log: TrainingLog, first: int, last: int) -> dict[str, float]:
    counts: dict[str, int] = {}
    for row in log.rows[first:last]:
        for source, n in (row.get("rows") or {}).items():
            counts[source] = counts.get(source, 0) + n
    total = sum(counts.values())
    return {source: n / total for source, n in counts.items()} if total else {}


def sources_of(losses: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sources of the validation losses, in the order of their first appearance."""
    return list(dict.fromkeys(k for phase in losses for k in phase if k != "phase"))


def validation(phases: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> Markup:
    """Draw the loss on validation documents by source at the end of every phase. Phases are labelled by number."""
    sources = sources_of(phases)
    y = scale_for([p[s] for p in phases for s in sources if s in p], BOTTOM, TOP)
    x = Scale(0, max(len(phases) - 1, 1), LEFT + 24, RIGHT - 24)
    parts = [*y_axis(y, LEFT, RIGHT, 3), line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")]
    for i in range(len(phases)):
        text = "end of phase 1" if not i and len(phases) < 5 else str(i + 1)
        parts.append(label(x(i), BOTTOM + 18, text, "m", "middle"))
    for source in sources:
        points = [(x(i), y(p[source])) for i, p in enumerate(phases) if source in p]
        parts.append(path(points, colours[source]))
        parts += [tag("circle", cx=px, cy=py, r=3.5, style=f"fill:var({colours[source]})") for px, py in points]
    remark = "logarithmic" if y.log else ""
    parts += [label(RIGHT, 12, remark, "m", "end"), label(0, 12, "validation loss by phase", "t b")]
    return svg(WIDTH, BOTTOM + 26, "Validation loss by phase", *parts)
