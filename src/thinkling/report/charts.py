"""Building blocks of inline SVG charts: escaped tags, scales with ticks, lines, bands and axes.

Colours are CSS variables of the page (`--s1`, …), so that a chart automatically follows the light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from thinkling.report.text import short, visible

Point = tuple[float, float]
HIGH, MEDIUM, OTHER = ("--hq1", "--hq2", "--hq3", "--hq4"), ("--mq1", "--mq2", "--mq3", "--mq4"), 8


def tag(name: str, *content: str | Markup, **attributes: str | float | None) -> Markup:
    """Return an SVG element. Strings in content and attributes are escaped. Attribute names are converted: `class_` →
    class, `stroke_width` → stroke-width."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(part if isinstance(part, Markup) else escape(visible(part)) for part in content)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner or name in ("text", "div") else f"<{name}{written}/>")


def _value(value: str | float) -> str:
    return visible(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def svg(width: float, height: float, title: str, *content: Markup) -> Markup:
    """Return a picture that scales to the available width. `title` is read aloud by screen readers."""
    return tag(
        "svg",
        tag("title", title),
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
    )


def label(x: float, y: float, text: str, class_: str = "t", anchor: str = "start", **more: str | float) -> Markup:
    """Return a line of text with its baseline at y. Classes: t (text), m (muted), n (numbers), b (bold)."""
    return tag("text", text, x=x, y=y, class_=class_, text_anchor=None if anchor == "start" else anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "grid") -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[Point], colour: str, class_: str = "line") -> Markup:
    """Return a line through points of the picture, interrupted at points that are not finite."""
    d, pen = [], "M"
    for x, y in points:
        if not math.isfinite(y):
            pen = "M"
            continue
        d.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return tag("path", d="".join(d), class_=class_, style=f"stroke:var({colour})")


def band(
    upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], colour: str, class_: str
) -> Markup:
    """Return the filled area between two lines."""
    points = [*upper, *reversed(lower)]
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
    return tag("path", d=d, class_=class_, style=f"fill:var({colour})")


@dataclass(frozen=True)
class Scale:
    """Mapping from values in `[low, high]` to positions in `[start, stop]` of the picture, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.stop - self.start) * ((at - low) / (high - low) if high > low else 0.5)

    def ticks(self, n: int = 5) -> list[float]:
        """Return about `n` round values within the scale."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**d for d in decades for m in (1, 2, 5) if self.low <= m * 10.0**d <= self.high]
            if len(found) > 8:
                found = [10.0**d for d in decades if self.low <= 10.0**d <= self.high]
                found = found[:: max(1, round(len(found) / n))]
            if len(found) >= 2:
                return found
        if self.high <= self.low:
            return [self.low]
        raw = (self.high - self.low) / n
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [float(f"{i * step:.15g}") for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_for(values: Iterable[float], start: float, stop: float, zero: bool = False) -> Scale:
    """Return a scale that contains all finite values. The scale is logarithmic if the values are positive and span more
    than a factor of 5. With `zero`, it is linear and includes 0."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if not zero and low > 0 and high / low > 5:
        return Scale(low / 1.08, high * 1.08, start, stop, log=True)
    if zero:
        low = min(low, 0.0)
    # If the values are equal up to rounding errors, the span is the magnitude of the largest value.
    largest = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * largest else largest
    margin = 0.06 * (span if span > 1e-300 else 1.0)
    return Scale(low if zero and low == 0 else low - margin, high + margin, start, stop)


@dataclass(frozen=True)
class Bin:
    """Summary of the values of consecutive steps: the positions at which the steps begin and end, and the mean and
    extremes of the values."""

    begin: float
    end: float
    mean: float
    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.begin + self.end) / 2


def bins(ends: Sequence[float], values: Sequence[float], n: int) -> list[Bin]:
    """Divide the steps into at most `n` bins of equal numbers of steps. `ends`: position of the end of each step; the
    first step begins at 0.

    Bins without a finite value are omitted.
    """
    found, count = [], len(values)
    for i in range(min(n, count)):
        a, b = i * count // min(n, count), (i + 1) * count // min(n, count)
        finite = [v for v in values[a:b] if math.isfinite(v)]
        if finite:
            mean = math.fsum(finite) / len(finite)
            found.append(Bin(ends[a - 1] if a else 0.0, ends[b - 1], mean, min(finite), max(finite)))
    return found


def tick_text(value: float) -> str:
    """Format the label of a tick as briefly as possible: 0, 0.5, 1e-05, 2.5M."""
    return f"{value:g}" if abs(value) < 1000 else f"{value / 1000:g}K" if abs(value) < 1e5 else short(value)


def y_axis(scale: Scale, left: float, right: float, n: int = 4, power: int = 0) -> list[Markup]:
    """Return grid lines with their values to the left, in units of 10 to the `power`."""
    return [
        part
        for tick in scale.ticks(n)
        for part in (
            line(left, scale(tick), right, scale(tick)),
            label(left - 8, scale(tick) + 4, tick_text(float(f"{tick / 10.0**power:.12g}")), "m", "end"),
        )
    ]


def x_axis(scale: Scale, y: float, unit: str, n: int = 8) -> list[Markup]:
    """Return a base line with values below it, and the unit after the last value."""
    ticks = scale.ticks(n)
    parts = [line(scale.start, y, scale.stop, y, "axis")]
    free = math.inf
    for tick in reversed(ticks):
        last = tick == ticks[-1]
        text = tick_text(tick) + (f" {unit}" if last else "")
        width = 6.4 * len(text)
        at_edge = last and scale(tick) + width / 2 > scale.stop
        end = min(scale(tick) + width / 2, scale.stop)
        parts.append(line(scale(tick), y, scale(tick), y + 4, "axis"))
        if end + 6 <= free:
            parts.append(label(end if at_edge else scale(tick), y + 18, text, "m", "end" if at_edge else "middle"))
            free = end - width
    return parts


def dodge(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions close to the wanted positions, in the same order and at least `gap` apart. They are within
    `[low, high]` if there is enough room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    at = low - gap
    for i in order:
        at = placed[i] = max(wanted[i], at + gap)
    limit = high + gap
    for i in reversed(order):
        limit = placed[i] = min(placed[i], limit - gap)
    return placed


def source_colours(names: Iterable[str]) -> dict[str, str]:
    """Assign a colour to each source: blues for `hq-…`, oranges for `mq-…`, and different colours for all others."""
    found, used = {}, {"hq": 0, "mq": 0, "": 0}
    for name in names:
        group = name[:2] if name[:3] in ("hq-", "mq-") else ""
        palette = {"hq": HIGH, "mq": MEDIUM}.get(group, tuple(f"--s{i + 1}" for i in range(OTHER)))
        found[name] = palette[used[group] % len(palette)]
        used[group] += 1
    return found
