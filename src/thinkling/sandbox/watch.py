"""The server's part of a run: it waits for the child's end, and kills it when it holds too much or when asked to.

A session's child is paused between calls: nothing of it runs then, and nothing has to be looked at.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress

from thinkling.sandbox import protocol
from thinkling.sandbox.inspector import Inspector
from thinkling.sandbox.limits import Limits

TICK = 0.02
"""Seconds between two looks. Bounds what a child can take before it is stopped."""


class Watch:
    """`stopped`: why the child was killed, if it was: `disk`, `threads`, or `asked`."""

    def __init__(self, pid: int, limits: Limits, inspector: Inspector, channel: socket.socket) -> None:
        self._pid, self._limits, self._inspector, self._channel = pid, limits, inspector, channel
        self.stopped: str | None = None
        self._paused = False

    def until_exit(self) -> None:
        """Until the child is dead, but not yet reaped: its number is still its own. Closed: the sandbox has gone."""
        exit_of_child = os.pidfd_open(self._pid)
        poll = select.poll()
        poll.register(exit_of_child, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        next_look = time.monotonic() + TICK
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(None if self._paused else 1000 * TICK)]
            if exit_of_child in ready:
                break
            if ready:
                self._hear()
            if not self._paused and time.monotonic() >= next_look:
                reason = self._inspector.look(self._pid, self._limits)
                if reason is not None:
                    self._stop(reason)
                next_look = time.monotonic() + TICK
        os.close(exit_of_child)

    def _hear(self) -> None:
        try:
            message, _ = protocol.receive(self._channel)
        except (protocol.Closed, OSError):
            self._stop("abandoned")
            os.waitpid(self._pid, 0)
            raise
        if message in (protocol.PAUSE, protocol.RESUME):
            self._paused = message == protocol.PAUSE
            os.kill(self._pid, signal.SIGSTOP if self._paused else signal.SIGCONT)
        else:
            self._stop("asked")

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # in case it has not made its process group yet
            os.killpg(self._pid, signal.SIGKILL)
