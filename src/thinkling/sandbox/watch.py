"""The server's part of a run: it looks at what a child holds, and kills it when that is too much or when asked to."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import time
from contextlib import suppress

from thinkling.sandbox import protocol
from thinkling.sandbox.limits import Limits

TICK = 0.02
"""Seconds between two looks. Bounds what a child can take before it is stopped."""
MOST_FILES = 256
"""In the private folder. Past it, what lies there is not even counted."""


class Watch:
    """`stopped`: why the child was killed, if it was: `disk`, `threads`, or `asked`."""

    def __init__(self, pid: int, limits: Limits, folder: str, stdin: int, channel: socket.socket) -> None:
        """`stdin`: its nameless file, which is not its own."""
        self._pid, self._limits, self._folder, self._channel = pid, limits, folder, channel
        self._stdin = os.fstat(stdin)
        self.stopped: str | None = None

    def until_exit(self) -> None:
        """Until the child is dead, but not yet reaped: its number is still its own. Closed: the sandbox has gone."""
        exit_of_child = os.pidfd_open(self._pid)
        poll = select.poll()
        poll.register(exit_of_child, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        next_look = time.monotonic() + TICK
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(1000 * TICK)]
            if exit_of_child in ready:
                break
            if ready:
                self._hear()
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + TICK
        os.close(exit_of_child)

    def _hear(self) -> None:
        try:
            protocol.receive(self._channel)
        except (protocol.Closed, OSError):
            self._stop("abandoned")
            os.waitpid(self._pid, 0)
            raise
        self._stop("asked")

    def _look(self) -> None:
        # It may have ended by now, or be ending: the kernel then refuses a look at its descriptors.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if len(os.listdir(f"/proc/{self._pid}/task")) > self._limits.threads:
                self._stop("threads")
            elif self._disk() > self._limits.disk_bytes:
                self._stop("disk")

    def _disk(self) -> int:
        """Bytes in the private folder, and in files without a name that the child holds open."""
        total = 0
        with os.scandir(self._folder) as entries:
            for count, entry in enumerate(entries):
                if count == MOST_FILES:
                    return self._limits.disk_bytes + 1
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
        for name in os.listdir(f"/proc/{self._pid}/fd"):
            with suppress(FileNotFoundError):
                found = os.stat(f"/proc/{self._pid}/fd/{name}")
                if stat.S_ISREG(found.st_mode) and not found.st_nlink and not os.path.samestat(found, self._stdin):
                    total += found.st_size
        return total

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # in case it has not made its process group yet
            os.killpg(self._pid, signal.SIGKILL)
