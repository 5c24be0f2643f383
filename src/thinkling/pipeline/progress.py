"""Progress reports with rate and time left: bars in a terminal, and a line every 20 seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

LINE_EVERY_SECONDS = 20.0


class _Amount(ProgressColumn):
    """A column with the amount done, the total, and the rate since this process started."""

    def render(self, task: RichTask) -> Text:
        unit = task.fields["unit"]
        of = "" if task.total is None or task.completed > task.total else f"/{short(task.total)}"
        return Text(f"{short(task.completed)}{of} {unit}  {short(task.speed or 0)}/s", "progress.data.speed")


class _RichTask:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.bars.advance(self.task, amount)
        if fields:
            self.bars.update(self.task, note=note(fields))


class _LineTask:
    def __init__(self, console: Console, label: str, total: float | None, unit: str, done: float) -> None:
        self.console, self.label, self.total, self.unit, self.done = console, label, total, unit, done
        self.start, self.start_done, self.last = time.monotonic(), done, time.monotonic()

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_SECONDS:
            self.last = now
            rate = (self.done - self.start_done) / (now - self.start)
            of, left = "", ""
            if self.total is not None and self.done <= self.total:  # otherwise the total was only an estimate
                of = f"/{short(self.total)}"
                left = f", {(self.total - self.done) / rate if rate else float('inf'):.0f} s left"
            self.console.print(
                f"  {self.label}: {short(self.done)}{of} {self.unit}, {short(rate)}/s{left}  {note(fields)}",
                highlight=False,
            )


class TerminalProgress:
    """Progress reports of the runner, printed by rank 0 only."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: Progress | None = None

    @contextmanager
    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> Iterator[_RichTask | _LineTask]:
        """Open a progress bar, drawn below any bar that is already open."""
        if not self.console.is_terminal:
            yield _LineTask(self.console, label, total, unit, done)
        elif self._bars is not None:
            task = self._bars.add_task(label, total=total, completed=int(done), unit=unit, note="")
            try:
                yield _RichTask(self._bars, task)
            finally:
                self._bars.remove_task(task)
        else:
            with self._shown() as bars:
                yield _RichTask(bars, bars.add_task(label, total=total, completed=int(done), unit=unit, note=""))

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        with Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            _Amount(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self.console,
            transient=True,
        ) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None

    def note(self, text: str) -> None:
        """Print a line that remains in the terminal."""
        self.console.print(Text(f"  {text}"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning in yellow that remains in the terminal."""
        self.console.print(Text(f"  warning: {text}", style="bold yellow"), soft_wrap=True)


def short(value: float) -> str:
    """Format a number in short form: 1234567 becomes `1.23M`."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "K")):
        if abs(value) >= scale:
            return f"{value / (1e3 if letter == 'K' else scale):.3g}{letter}"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"


def note(fields: dict[str, object]) -> str:
    """Format metrics as `loss 2.314  lr 0.004`."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()
    )


def progress_console() -> Console:
    """Return a console on standard error, so that standard output contains only results."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 120)


def result_console(quiet: bool = False) -> Console:
    """Return a console on standard output, 160 columns wide if standard output is not a terminal."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else 160)
