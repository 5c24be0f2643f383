"""A session: a confined process that runs pieces of code one after another and is paused between them."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from thinkling.sandbox import protocol
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.listen import GRACE_SECONDS, LOCK_IN_SECONDS
from thinkling.sandbox.outcome import Status, judge, read_reply

MOST_CODE = 60_000
"""Maximum size of one piece of code in bytes."""
LONGEST_REPORT = 1 << 16
"""Maximum number of bytes buffered while a line of a report is incomplete. The limit is needed because a program can
write anything to the report pipe."""


@dataclass(frozen=True)
class Call:
    """The result of one piece of code. `status` and `detail` are as in `Outcome`. An exception does not end the
    process."""

    status: Status
    stdout: str
    stderr: str
    detail: str
    seconds: float
    ended: bool
    """Whether the process has ended and its state is lost."""


class Session:
    """A session, created by `Sandbox.session`. Not safe to share between threads."""

    def __init__(
        self,
        channel: socket.socket,
        calls: int,
        reads: Sequence[int],
        nonce: str,
        limits: Limits,
        ended: Callable[[], None],
    ) -> None:
        """`calls`: pipe for code; `reads`: pipes for stdout, stderr and reports; `ended`: called when the server has
        reported that the process has ended."""
        self._channel, self._calls, self._reads, self._limits = channel, calls, reads, limits
        self._mark = nonce.encode() + b" "
        self._on_end = ended
        self._reports = bytearray()
        self._ready = False
        self._reply: bytes | None = None
        self._closed = False
        self._number = 0
        os.set_blocking(calls, False)
        for read in reads:
            os.set_blocking(read, False)

    def run(self, code: str, wall_seconds: float | None = None) -> Call:
        """Run one piece of code for at most `wall_seconds` (default: the value of the limits). Raises ValueError if the
        session has ended, or if the code is longer than MOST_CODE bytes."""
        content = code.encode("utf-8", "surrogatepass")
        if self._closed or self._reply is not None or len(content) > MOST_CODE:
            raise ValueError("the session has ended" if len(content) <= MOST_CODE else "the code is too long")
        self._number += 1
        message = protocol.write_call(content)
        return _Running(self, message, wall_seconds or self._limits.wall_seconds).until_done()

    def close(self) -> None:
        """End the process and release its server."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(OSError, protocol.Closed):  # a server that has died is restarted before its next run
                if self._reply is None:
                    protocol.send(self._channel, protocol.STOP)
                    self.receive(GRACE_SECONDS)
        finally:
            for descriptor in (self._calls, *self._reads):
                os.close(descriptor)

    def receive(self, timeout: float) -> bytes:
        """Receive the server's reply that the process has ended. Raises TimeoutError, OSError or protocol.Closed if the
        server does not reply."""
        self._channel.settimeout(timeout)
        self._reply, _ = protocol.receive(self._channel)
        self._on_end()
        return self._reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Running:
    """A call in progress."""

    def __init__(self, session: Session, message: bytes, wall_seconds: float) -> None:
        self._session, self._unsent, self._wall = session, memoryview(message), wall_seconds
        self._streams, self._heard = [bytearray(), bytearray()], [0, 0, 0]
        self._stopped: str | None = None
        self._started = time.monotonic()
        self._deadline = self._started + (wall_seconds if session._ready else LOCK_IN_SECONDS)
        self._report: dict[str, Any] | None = None

    def until_done(self) -> Call:
        """Send the code, and read output until the code has run or the process has ended."""
        session = self._session
        try:
            protocol.send(session._channel, protocol.RESUME)
            return self._follow()
        except (OSError, protocol.Closed) as error:
            detail = f"the fork-server has gone ({str(error) or 'it closed its channel'})"
            session._reply = b""
            return self._call(Status.UNAVAILABLE, detail, ended=True)

    def _follow(self) -> Call:
        session = self._session
        channel, poll = session._channel.fileno(), select.poll()
        for descriptor in (channel, *session._reads):
            poll.register(descriptor, select.POLLIN)
        poll.register(session._calls, select.POLLOUT)
        while True:
            late = time.monotonic() - self._deadline
            if late >= 0:
                self._stop("wall")
            if late >= GRACE_SECONDS:
                raise TimeoutError("it does not answer")
            for descriptor, _ in poll.poll(1000 * (min(-late, 1.0) if late < 0 else 0.1)):
                if descriptor == channel:
                    return self._died(session.receive(GRACE_SECONDS))
                if self._write() if descriptor == session._calls else self._read(descriptor):
                    poll.unregister(descriptor)
            if self._report is not None and self._stopped is None:
                protocol.send(session._channel, protocol.PAUSE)
                for descriptor in session._reads[:2]:  # all output of the call is now in the pipes
                    self._read(descriptor)
                if self._stopped is None:
                    return self._done(self._report)

    def _done(self, report: dict[str, Any]) -> Call:
        error = report.get("error")
        named = error if isinstance(error, str) else ""
        return self._call(Status.ERROR if named else Status.OK, named[:100], ended=False)

    def _died(self, reply: bytes) -> Call:
        for descriptor in self._session._reads:
            self._read(descriptor)
        found = read_reply(reply, self._stopped)
        results = (protocol.READY if self._session._ready else b"") + self._session._reports
        nonce, limits = self._session._mark.decode().strip(), self._session._limits
        outcome = judge(found, (*self._streams, results), [nonce], 0, limits)
        detail = f"more than {self._wall:g} s of clock time" if self._stopped == "wall" else outcome.detail
        return self._call(outcome.status, detail or f"it ended by itself with status {found['exit']}", ended=True)

    def _call(self, status: Status, detail: str, ended: bool) -> Call:
        stdout, stderr = (bytes(stream).decode("utf-8", "replace") for stream in self._streams)
        return Call(status, stdout, stderr, detail, time.monotonic() - self._started, ended)

    def _stop(self, reason: str) -> None:
        if self._stopped is None:
            self._stopped = reason
            protocol.send(self._session._channel, protocol.STOP)

    def _write(self) -> bool:
        """Write as much code as fits into the pipe. Returns whether all code has been written. A program that does not
        read is stopped when its time is up."""
        try:
            self._unsent = self._unsent[os.write(self._session._calls, self._unsent) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:  # the process has ended, which the server will report
            return True
        return not self._unsent

    def _read(self, descriptor: int) -> bool:
        """Read the available data, discarding output and reports beyond the limit. Returns whether the pipe has
        ended."""
        number = self._session._reads.index(descriptor)
        with suppress(BlockingIOError):
            while data := os.read(descriptor, 1 << 16):
                self._heard[number] += len(data)
                if self._heard[number] > self._session._limits.output_bytes:
                    self._stop("output")
                    return False
                if number == 2:
                    self._hear(data)
                else:
                    self._streams[number] += data
            return True
        return False

    def _hear(self, data: bytes) -> None:
        """Parse reports: READY, followed by lines that consist of the session's mark and a JSON object. All data after
        READY is untrusted."""
        session, reports = self._session, self._session._reports
        reports += data
        if not session._ready and reports[:1] == protocol.READY:
            del reports[:1]
            session._ready = True
            self._deadline = time.monotonic() + self._wall
        *lines, rest = bytes(reports).split(b"\n")
        reports[:] = rest[-LONGEST_REPORT:]
        for line in lines if session._ready else ():
            if line.startswith(session._mark):
                with suppress(ValueError, RecursionError):
                    found = json.loads(line[len(session._mark) :])
                    if isinstance(found, dict) and (found.get("kind"), found.get("at")) == ("call", session._number):
                        self._report = found
