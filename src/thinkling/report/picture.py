"""The picture of a run for a README: scores by checkpoint, and the mixture and learning rate of pre-training.

    python -m thinkling.report.picture runs/tiny docs/tiny.svg

The picture is a static SVG with its own background, so it is legible on light and dark pages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thinkling.data.atomic import replacing
from thinkling.errors import UserError
from thinkling.report.charts import Scale, label, line, path, source_colours, svg, tag, x_axis
from thinkling.report.figures import mixture, thin
from thinkling.report.read import RunView, Stage, read_run
from thinkling.report.text import clip

WIDTH, MARGIN = 860, 28
FORMS = {
    "pages": "continues a page",
    "answers": "continues a page without reasoning",
    "chat": "answers in a chat",
}
"""Last word of a renderer's name → description of how the model answers. Renderers that are not listed are shown by
name."""
FONT = """
svg{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
svg .title{fill:var(--ink);font-size:18px;font-weight:600}
"""
PICTURE = """
svg .page{fill:var(--bg);stroke:var(--rule)}svg .halo{fill:none;stroke:var(--bg);stroke-width:5}
svg .rate{fill:none;stroke-width:2.2}"""


def write_picture(run_directory: Path, target: Path) -> Path:
    """Draw the picture of a run and write it to `target`.

    Raises UserError if the folder is not that of a run, or if the run has no scores.
    """
    drawn = score_svg(read_run(run_directory))
    with replacing(target) as temporary:
        temporary.write_text(drawn + "\n", encoding="utf-8")
    return target


def score_svg(run: RunView) -> str:
    """Draw the scores of the run's first task set with their intervals and, below them, the mixture and learning rate
    of pre-training.

    Raises UserError if the run has no scores.
    """
    if not run.scores:
        raise UserError(f"{run.directory}: no evaluate stage has finished, so there is no score to draw; run one first")
    y, parts = score_rows(run)
    pretrained = next((s for s in run.stages if s.kind == "pretrain" and s.log and s.log.sources), None)
    if pretrained:
        y, strip = pretraining(pretrained, y + 44)
        parts += strip
    style = Markup(f"{FONT}{(files('thinkling.report') / 'figures.css').read_text(encoding='utf-8')}{PICTURE}")
    page = tag("rect", x=0.5, y=0.5, width=WIDTH - 1, height=y + 23, rx=12, class_="page")
    return str(svg(WIDTH, y + 24, f"{run.name}: score by stage", tag("style", style), page, *parts))


def score_rows(run: RunView) -> tuple[float, list[Markup]]:
    """Draw the title, the axis and one row per checkpoint. Returns the y position of the lower edge, and the
    elements."""
    task_set = run.scores[0]["task_set"]
    found = [s for s in run.scores if s["task_set"] == task_set]
    first, row, top = found[0], 42, 100
    scale, bottom = Scale(0, 1, 214, 584), 100 + 42 * len(found) - 4
    parts = [
        label(MARGIN, 40, f"{run.name}: score by stage", "title"),
        label(MARGIN, 63, f"{task_set}, avg@{first['k']} over {first['n']:,} held-out problems", "m"),
        tag("circle", cx=430, cy=59, r=5, class_="mean"),
        line(418, 59, 442, 59, "interval"),
        label(450, 63, "mean, 95% interval", "m"),
        diamond(596, 59),
        label(608, 63, "share of samples that think", "m"),
    ]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        at = scale(tick)
        parts += [line(at, top - 14, at, bottom), label(at, bottom + 18, f"{tick:g}", "m", "middle")]
    for i, score in enumerate(found):
        at = top + row * i + 10
        parts += [
            label(MARGIN, at, clip(score["checkpoint"], 24), "t b"),
            label(MARGIN, at + 16, form(str(score["renderer"])), "m"),
            *score_marks(score, scale, at + 2),
            label(606, at + 6, f"{score['mean']:.3f}", "t b n"),
            label(656, at + 6, f"{score['low']:.3f}–{score['high']:.3f}", "m n"),
        ]
        if score.get("thinking_fraction") is not None:
            parts.append(label(WIDTH - MARGIN, at + 6, f"{score['thinking_fraction']:.0%} think", "m n", "end"))
    return bottom + 22, parts


def score_marks(score: dict[str, Any], scale: Scale, y: float) -> list[Markup]:
    """Draw the track, thinking fraction, interval and mean of one score."""
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


def form(renderer: str) -> str:
    """Describe in words how the model answers with this renderer."""
    return FORMS.get(renderer.rpartition("_")[2], renderer)


def pretraining(stage: Stage, top: float) -> tuple[float, list[Markup]]:
    """Draw the mixture of sources over tokens, overlaid with the learning rate. Returns the y position of the lower
    edge, and the elements."""
    log = stage.log
    assert log is not None
    x = Scale(0, log.tokens[-1], MARGIN + 42, 620)
    upper, height = top + 50, max(120.0, 24.0 + 18 * len(log.sources))
    rates = log.column("lr")
    y = Scale(0, max(rates), upper + height, upper + 12)
    colours = source_colours(log.sources)
    points = thin([(x(t), y(v)) for t, v in zip([0.0, *log.tokens[:-1]], rates, strict=True)], 400)
    parts = [
        label(MARGIN, top, f"{stage.name}: mixture and learning rate", "t b"),
        *mixture(log, x, upper, height, colours),
        *mixture_legend(colours, 648, upper),
        path(points, "--bg", "halo"),
        path(points, "--ink", "rate"),
        *x_axis(x, upper + height + 3, log.unit, 6),
    ]
    named = [p for p in log.phases if p.name]
    tier = 0
    for before, phase in zip([None, *named], named, strict=False):
        tier = 15 if before and tier == 0 and x(before.end) - x(before.begin) < 8 + 6.4 * len(before.name) else 0
        at = x(phase.begin) + (4 if before else 0)
        parts.append(label(at, upper - 24 + tier, clip(phase.name, 34), "m"))
        if before:
            parts.append(line(x(phase.begin), upper - 20 + tier, x(phase.begin), upper + height, "phase"))
    at = upper + height - 2
    parts += [
        path([(648, at), (674, at)], "--ink", "rate"),
        label(682, at + 4, f"learning rate, to {max(rates):g}", "t"),
    ]
    return upper + height + 24, parts


def mixture_legend(colours: Mapping[str, str], x: float, top: float) -> list[Markup]:
    """Draw the legend of the mixture: a title and a line per source."""
    parts = [label(x, top + 10, "mixture, share of rows", "t b")]
    for i, (source, colour) in enumerate(colours.items()):
        at = top + 28 + 18 * i
        parts.append(tag("rect", x=x, y=at - 9, width=11, height=11, rx=2, style=f"fill:var({colour})"))
        parts.append(label(x + 18, at, clip(source, 24), "t"))
    return parts


if __name__ == "__main__":
    write_picture(Path(sys.argv[1]), Path(sys.argv[2]))
