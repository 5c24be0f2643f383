"""The caller's part of a run: it reads the program's output up to the limit and enforces the wall-clock limit."""

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
"""Seconds within which most programs end. The pipes are not read during this time, because they buffer the output."""
LOCK_IN_SECONDS = 30.0
"""Maximum wall-clock time from the request to the start of the program."""
GRACE_SECONDS = 30.0
"""Time after the deadline at which a server that has not replied counts as hung."""


class Listener:
    """Reads the pipes of a run. `streams`: data read from each pipe; `stopped`: the reason why the server was asked to
    stop the run (`wall` or `output`), or None."""

    def __init__(self, channel: socket.socket, reads: Sequence[int], limits: Limits) -> None:
        """`reads`: descriptors of the pipes. The pipe for reports is the last."""
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
        """Read the pipes until the server replies, and return the reply. Raises TimeoutError if the server does not
        reply, and protocol.Closed or OSError if it has died."""
        if not self._poll.poll(1000 * min(FIRST_LOOK, self._limits.wall_seconds)):
            self._follow()
        reply, _ = protocol.receive(self._channel)
        for read in self._stream_of:
            self._read(read)
        return reply

    def _follow(self) -> None:
        """Read the pipes until a message from the server is available."""
        for read in self._stream_of:
            self._poll.register(read, select.POLLIN)
        while True:
            # The program's time starts with the first report. Until then, the child confines itself, which can be slow.
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
        """Read the available data, discarding data beyond the limit. Returns whether the pipe has ended."""
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
            with suppress(BrokenPipeError, ConnectionResetError):  # until_reply then raises an exception
                protocol.send(self._channel, protocol.STOP)
