"""Progress reporting for long-running work. Every package may use this module; it imports nothing from thinkling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """One progress bar."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Advance the bar by `amount` units. `fields` (loss=…, lr=…) are shown next to the bar."""
        ...


class Progress(Protocol):
    """Displays progress bars with rates and remaining time. The runner provides an implementation; tests use
    `Silent`."""

    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        """Return a context manager that shows a bar of `total` units (None if the total is unknown). `done` units were
        completed earlier, before the run was resumed."""
        ...

    def note(self, text: str) -> None:
        """Print a permanent line, such as the usage of a served model."""
        ...

    def warn(self, text: str) -> None:
        """Print a warning as a permanent, highlighted line."""
        ...


def tracked(items: Iterable[T], progress: Progress, label: str, total: float | None, unit: str) -> Iterator[T]:
    """Yield the items, and advance a progress bar by one unit after each item."""
    with progress.track(label, total, unit) as task:
        for item in items:
            yield item
            task.advance()


class _SilentTask:
    def advance(self, amount: float = 1, **fields: object) -> None:
        """Do nothing."""


class Silent:
    """A `Progress` that displays nothing."""

    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        return nullcontext(_SilentTask())

    def note(self, text: str) -> None:
        """Do nothing."""

    def warn(self, text: str) -> None:
        """Do nothing."""
