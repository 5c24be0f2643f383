"""A server of chat completions in this process, which answers and fails as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "completion_tokens_details": {"reasoning_tokens": 3},
    "prompt_tokens_details": {"cached_tokens": 2},
}


@dataclass(frozen=True)
class Failing:
    """A reply that is no completion."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Says = Callable[[int, Mapping[str, Any]], str | Failing]
"""(number of the request from 0, its body) → what the model says, or how the server fails."""


class FakeServer(ThreadingHTTPServer):
    """Remembers what it was asked."""

    def __init__(self, says: Says, usage: Mapping[str, Any] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says, self.usage = says, usage
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
        said = self.server.says(number, body)
        if isinstance(said, Failing):
            self._send(said.status, said.body, said.headers)
            return
        answer: dict[str, Any] = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        if self.server.usage is not None:
            answer["usage"] = self.server.usage
        self._send(200, json.dumps(answer), {})

    def _send(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def serving(says: Says, usage: Mapping[str, Any] | None = USAGE) -> Iterator[FakeServer]:
    """The server while the block runs."""
    server = FakeServer(says, usage)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failing_first(failures: Sequence[Failing], then: str = "fine") -> Says:
    """Each failure once, in order, then the answer."""
    return lambda number, body: failures[number] if number < len(failures) else then


@dataclass
class Bar:
    """What was shown of one bar."""

    total: float | None
    unit: str
    done: float
    moves: int = 0

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.done += amount
        self.moves += 1


class Watching:
    """Progress that remembers lines and bars."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.bars: dict[str, Bar] = {}
        """The last one of each label."""

    @contextmanager
    def track(self, label: str, total: float | None, unit: str, done: float = 0) -> Iterator[Bar]:
        self.bars[label] = Bar(total, unit, done)
        yield self.bars[label]

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
