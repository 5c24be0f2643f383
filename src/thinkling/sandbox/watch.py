"""Looks after one child: reads what it writes, and kills it when it takes too much or too long."""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from collections.abc import Sequence
from contextlib import suppress

from thinkling.sandbox.limits import Limits

TICK = 0.02
"""Seconds between two looks at what a running child holds. Bounds what it can take before it is stopped."""
LOCK_IN_SECONDS = 30.0
"""Clock time that a child gets besides, before its program starts."""
MOST_FILES = 256
"""In the private folder. Past it, what lies there is not even counted."""


class Watch:
    """`streams`: what was read of each pipe, up to the limit; `stopped`: why the child was killed, if it was."""

    def __init__(self, pid: int, reads: Sequence[int], limits: Limits, folder: str, stdin: int, channel: int) -> None:
        """`reads`: the pipes it writes to, reports last; `stdin`: its nameless file, which is not its own; `channel`:
        the server's, whose hang-up ends the run."""
        self._pid, self._limits, self._folder, self._channel = pid, limits, folder, channel
        self._stdin = os.fstat(stdin)
        self._deadline = time.monotonic() + limits.wall_seconds
        self._exit = os.pidfd_open(pid)
        self.streams = [bytearray() for _ in reads]
        self.stopped: str | None = None
        self._stream_of = dict(zip(reads, self.streams, strict=True))
        self._poll = select.poll()
        self._poll.register(self._exit, select.POLLIN)
        self._poll.register(channel, 0)

    def until_exit(self) -> None:
        """Until the child is dead, but not yet reaped: its number is still its own. Closes the pipes."""
        # Most programs end within a tick. Until then nothing is read: every page that the server touches while its
        # child lives is copied, and what the child wrote waits in the pipes.
        events = self._poll.poll(1000 * min(TICK, self._limits.wall_seconds))
        alive = all(descriptor != self._exit for descriptor, _ in events)
        for descriptor in self._stream_of:
            self._poll.register(descriptor, select.POLLIN)
        next_look = 0.0
        while alive:
            now = time.monotonic()
            # A child that has not reported yet is still locking itself in: on a busy machine that is no fault of its.
            if now >= self._deadline + (0 if self.streams[-1] else LOCK_IN_SECONDS):
                self._stop("wall")
            elif now >= next_look:
                self._look()
                next_look = time.monotonic() + TICK
            for descriptor, _ in self._poll.poll(1000 * TICK):
                if descriptor == self._exit:
                    alive = False
                elif descriptor == self._channel:
                    self._stop("abandoned")
                    self._poll.unregister(self._channel)
                else:
                    self._read(descriptor)
        for descriptor in list(self._stream_of):
            while descriptor in self._stream_of:
                self._read(descriptor)
        os.close(self._exit)

    def _read(self, descriptor: int) -> None:
        data = os.read(descriptor, 1 << 16)
        stream = self._stream_of[descriptor]
        space = self._limits.output_bytes - len(stream)
        stream += data[:space]
        if len(data) > space:
            self._stop("output")
        if not data:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            del self._stream_of[descriptor]

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
