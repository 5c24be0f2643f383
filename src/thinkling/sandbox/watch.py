"""The server's part of a run: it waits for the child to end, and kills the child on request or if the child exceeds a
limit.

The tester of a program is monitored in the same way. Once the tester has ended, the program is no longer needed.

The child of a session is paused between calls. No limits are checked during a pause, because nothing runs.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from thinkling.sandbox import protocol
from thinkling.sandbox.inspector import Inspector
from thinkling.sandbox.limits import Limits

TICK = 0.02
"""Seconds between two checks, which limits the resources that a child can use before it is stopped."""
LAST_SECONDS = 0.05
"""Seconds that a program has to end by itself after its tests are done."""


class Watch:
    """Monitors the children of a run. `stopped`: the reason why the children were killed (`disk`, `threads` or
    `asked`), or None; `unneeded`: children that were killed only because their tester had ended."""

    def __init__(self, pids: Sequence[int], limits: Limits, inspector: Inspector, channel: socket.socket) -> None:
        """`pids`: process ids of the tester, if there is one, and of the program."""
        self._pids, self._limits, self._inspector, self._channel = list(pids), limits, inspector, channel
        self.stopped: str | None = None
        self.unneeded: set[int] = set()
        self._paused = False

    def until_exit(self) -> None:
        """Wait until all children have ended. The children are not reaped, so that their process ids are not reused.
        Raises Closed or OSError if the sandbox has closed the channel."""
        exits = {os.pidfd_open(pid): pid for pid in self._pids}
        tester = self._pids[0]
        poll = select.poll()
        for descriptor in (*exits, self._channel):
            poll.register(descriptor, select.POLLIN)
        next_look = time.monotonic() + TICK
        last_moment: float | None = None
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(None if self._paused else 1000 * TICK)]
            for descriptor in exits.keys() & set(ready):
                poll.unregister(descriptor)
                os.close(descriptor)
                if exits.pop(descriptor) == tester:
                    last_moment = time.monotonic() + LAST_SECONDS
            if not exits:
                break
            if self._channel.fileno() in ready:
                self._hear()
            if last_moment is not None and time.monotonic() >= last_moment:
                self.unneeded.update(exits.values())
                self._kill(exits.values())
                last_moment = None
            if not self._paused and time.monotonic() >= next_look:
                for pid in exits.values():
                    reason = self._inspector.look(pid, self._limits)
                    if reason is not None:
                        self._stop(reason)
                next_look = time.monotonic() + TICK

    def _hear(self) -> None:
        try:
            message, _ = protocol.receive(self._channel)
        except (protocol.Closed, OSError):
            self._stop("abandoned")
            for pid in self._pids:
                os.waitpid(pid, 0)
            raise
        if message in (protocol.PAUSE, protocol.RESUME):
            self._paused = message == protocol.PAUSE
            for pid in self._pids:
                os.kill(pid, signal.SIGSTOP if self._paused else signal.SIGCONT)
        else:
            self._stop("asked")

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self._kill(self._pids)

    def _kill(self, pids: Iterable[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # the child may not have created its process group yet
                os.killpg(pid, signal.SIGKILL)
