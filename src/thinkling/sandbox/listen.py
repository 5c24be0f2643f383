"""The caller's part of a run: reads what a program writes, up to the limit, and measures the time."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from thinkling.sandbox import protocol
from thinkling.sandbox.limits import Limits

FIRST_LOOK = 0.02
"""Most programs end within this many seconds; nothing is read until then, because it waits in the pipes anyway."""
LOCK_IN_SECONDS = 30.0
"""Wall-clock time that a child has before its program starts."""
GRACE_SECONDS = 30.0
"""Additional time after which a server counts as hung."""


class Listener:
    """`streams`: what was read from each pipe; `stopped`: why the server was asked to stop it: `wall`, `output`."""

    def __init__(self, channel: socket.socket, reads: Sequence[int], limits: Limits) -> None:
        """`reads`: the pipes, reports last."""
        self.streams = [bytearray() for _ in reads]
        self.stopped: str | None = None
        self._channel, self._limits = channel, limits
        self._stream_of = dict(zip(reads, self.streams, strict=True))
        self._deadline = time.monotonic() + LOCK_IN_SECONDS
        self._started = False
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        for read in reads:
            os.set_blocking(read, False)

    def until_reply(self) -> bytes:
        """The server's reply. TimeoutError: it does not answer; protocol.Closed, OSError: it is gone."""
        if not self._poll.poll(1000 * min(FIRST_LOOK, self._limits.wall_seconds)):
            self._follow()
        reply, _ = protocol.receive(self._channel)
        for read in self._stream_of:
            self._read(read)
        return reply

    def _follow(self) -> None:
        """Reads until a message from the server is available."""
        for read in self._stream_of:
            self._poll.register(read, select.POLLIN)
        while True:
            # A child that has not reported yet is still confining itself: on a busy machine that is not its fault.
            if not self._started and self.streams[-1]:
                self._started = True
                self._deadline = time.monotonic() + self._limits.wall_seconds
            late = time.monotonic() - self._deadline
            if late >= 0:
                self._stop("wall")
            if late >= GRACE_SECONDS:
                raise TimeoutError("it does not answer")
            wait = min(-late, 1.0) if late < 0 else 0.1
            for descriptor, _ in self._poll.poll(1000 * wait):
                if descriptor == self._channel.fileno():
                    return
                if self._read(descriptor):
                    self._poll.unregister(descriptor)

    def _read(self, descriptor: int) -> bool:
        """Reads what is available, discarding it beyond the limit; returns whether the pipe has ended."""
        stream = self._stream_of[descriptor]
        with suppress(BlockingIOError):
            while data := os.read(descriptor, 1 << 16):
                space = self._limits.output_bytes - len(stream)
                stream += data[:space]
                if len(data) > space:
                    self._stop("output")
                    return False
            return True
        return False

    def _stop(self, reason: str) -> None:
        if self.stopped is None:
            self.stopped = reason
            with suppress(BrokenPipeError, ConnectionResetError):  # until_reply then notices
                protocol.send(self._channel, protocol.STOP)
