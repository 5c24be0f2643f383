"""The socket between a program and its tester. Each side can send requests, and serves requests while it waits for a
reply."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from thinkling.sandbox.kinds import Malformed
from thinkling.sandbox.wire import Codec

LONGEST = 64 * 2**20
"""Maximum size of a message in bytes."""
_SIZE = struct.Struct("<I")


class Gone(BaseException):
    """Raised if the other side has ended, or has sent a malformed message. Not a subclass of Exception, so that tests
    rarely catch it."""


class Peer:
    """One side of the link. `answer` handles the other side's requests, and may itself send requests."""

    def __init__(self, descriptor: int, codec: Codec, answer: Callable[[str, list[Any]], Any]) -> None:
        self._descriptor, self._codec, self._answer = descriptor, codec, answer
        self.gone = ""
        """The reason why the other side can no longer be used; empty as long as the other side can be used."""
        self.dropped: set[int] = set()
        """Numbers of handles that this side no longer needs."""
        self.forget: Callable[[Sequence[int]], None] = lambda numbers: None
        """Function that is called with the numbers of handles that the other side no longer needs."""

    def ask(self, what: str, *arguments: Any) -> Any:
        """Send a request. Return the value that the other side returned, or raise the exception that the other side
        raised. Raises Gone if the other side has ended."""
        if self.gone:
            raise Gone(self.gone)
        self._send("ask", what, arguments)
        while True:
            kind, what, values = self._receive()
            if kind == "ask":
                self._reply(what, values)
                continue
            if kind == "raise":
                raise values[0]
            return values[0]

    def serve(self) -> NoReturn:
        """Serve requests. Raises Gone when the other side has ended."""
        while True:
            _, what, values = self._receive()
            self._reply(what, values)

    def _reply(self, what: str, values: list[Any]) -> None:
        try:
            found = [self._answer(what, values)]
            values.clear()
            self._send("reply", "", found)
        except Gone:
            raise
        except BaseException as error:
            values.clear()
            found = [_without_frames(error)]
            self._send("raise", "", found)

    def _send(self, kind: str, what: str, values: Sequence[Any]) -> None:
        nodes, places = self._codec.encode(values)
        unused: list[int] = []
        if kind != "ask":
            values.clear()  # type: ignore[attr-defined]  # drops objects to which only the answer refers
            unused = self._codec.release()
        dropped = sorted(self.dropped)
        self.dropped.clear()
        content = json.dumps([kind, what, nodes, places, dropped, unused], separators=(",", ":")).encode()
        if len(content) > LONGEST:
            raise OverflowError(f"a value of {len(content)} bytes")
        try:
            _write(self._descriptor, _SIZE.pack(len(content)) + content)
        except OSError:
            self._end("the process has ended")

    def _receive(self) -> tuple[str, str, list[Any]]:
        try:
            (size,) = _SIZE.unpack(_read(self._descriptor, _SIZE.size))
            if size > LONGEST:
                raise Malformed(f"a message of {size} bytes")
            kind, what, nodes, places, dropped, unused = json.loads(_read(self._descriptor, size))
            if kind not in ("ask", "reply", "raise"):
                raise Malformed("an unknown kind of message")
            values = self._codec.decode(nodes, places)
            self.forget(dropped)  # only now, because the other side may have dropped objects that it returns here
            self._codec.drop(unused)
            if kind == "raise" and not isinstance(values[0], BaseException):
                raise Malformed("no exception is raised")
            if kind == "reply" and len(values) != 1:
                raise Malformed("a reply is one value")
            return kind, what, values
        except EOFError:
            self._end("the process has ended")
        except (OSError, ValueError, TypeError, LookupError, RecursionError, Malformed) as error:
            self._end(f"a malformed message: {type(error).__name__}")

    def _end(self, reason: str) -> NoReturn:
        self.gone = self.gone or reason
        raise Gone(self.gone) from None


def _without_frames(error: BaseException) -> BaseException:
    """Remove tracebacks, whose frames refer to the arguments of the call."""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = os.read(descriptor, min(size - len(content), 1 << 20))
        if not part:
            raise EOFError
        content += part
    return bytes(content)
