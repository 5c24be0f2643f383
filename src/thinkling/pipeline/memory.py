"""Peak resident memory of this process and its descendants while a stage runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

INTERVAL_SECONDS = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree_rss(root: int | None = None) -> int:
    """Return the resident bytes of a process and all its descendants. Shared pages are counted once per process."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # the process has ended in the meantime
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            resident[int(entry.name)] = int(fields[21]) * _PAGE
    total, queue = 0, [root or os.getpid()]
    while queue:
        process = queue.pop()
        total += resident.get(process, 0)
        queue += children.get(process, [])
    return total


class PeakMemory:
    """A context manager that samples the memory of the process tree in a thread.

    `peak_mb` is the largest sum so far, in MB (10⁶ bytes).
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, tree_rss() / 1e6)
            if self._stop.wait(INTERVAL_SECONDS):
                return

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
