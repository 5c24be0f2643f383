"""Progress reporting for long-running work. Every room may use it; it imports nothing from thinkling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """One progress bar."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Advances by `amount`; `fields` (loss=…, lr=…) are shown next to the bar."""
        ...


class Progress(Protocol):
    """Shows bars with rates and time left; provided by the runner, tests use `Silent`."""

    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        """A bar of `total` units (None: unknown), `done` of which were completed earlier (a resumed run)."""
        ...

    def note(self, text: str) -> None:
        """Prints a permanent line, such as what a served model was asked."""
        ...

    def warn(self, text: str) -> None:
        """Prints a line that must not be overlooked."""
        ...


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
