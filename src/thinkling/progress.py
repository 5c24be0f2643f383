"""Progress: what long work reports to whoever watches. Free to every room, and without imports of thinkling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """One progress bar."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Moves on by `amount`; `fields` (loss=…, lr=…) are shown beside the bar."""
        ...


class Progress(Protocol):
    """Shows bars with rates and time left; the runner brings one, tests use `Silent`."""

    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        """A bar of `total` units (None: not known), `done` of which were there before (a resumed run)."""
        ...

    def note(self, text: str) -> None:
        """A line that stays, such as what was asked of a served model."""
        ...

    def warn(self, text: str) -> None:
        """A line that must not be overlooked."""
        ...


def tracked(items: Iterable[T], progress: Progress, label: str, total: float | None, unit: str) -> Iterator[T]:
    """The items, one unit of a bar each."""
    with progress.track(label, total, unit) as task:
        for item in items:
            yield item
            task.advance()


class _SilentTask:
    def advance(self, amount: float = 1, **fields: object) -> None:
        """Shows nothing."""


class Silent:
    """Progress that shows nothing."""

    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        return nullcontext(_SilentTask())

    def note(self, text: str) -> None:
        """Shows nothing."""

    def warn(self, text: str) -> None:
        """Shows nothing."""
