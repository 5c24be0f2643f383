"""The served protocol against a small server in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from thinkling.errors import UserError
from thinkling.generate.backends import Reply
from thinkling.generate.client import ATTEMPTS, ServedModel, read_kept
from thinkling.generate.engine import Sampling
from thinkling.generate.served_reply import read_answer

SAMPLING = Sampling(0.5, 0.9)


class Server(ThreadingHTTPServer):
    """Echoes the last message; `failures` answers first come with `status`, and what says `refused` gets a 401."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.failures, self.status = 0, 503
        self.refused, self.refused_after = "", 0
        """A refusal waits until this many requests have come."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            failing = self.server.failures > 0
            self.server.failures -= failing
        found = self.path == "/v1/chat/completions"
        refused = self.server.refused and body["messages"][-1]["content"] == self.server.refused
        while refused and len(self.server.bodies) < self.server.refused_after:
            time.sleep(0.001)
        self.send_response(401 if refused else self.server.status if failing else 200 if found else 404)
        self.end_headers()
        message = {"content": f"<think>\nhm\n</think>\n\nyou said {body['messages'][-1]['content']}"}
        self.wfile.write(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(model: ServedModel, *texts: str) -> list[Reply]:
    return model.reply([[{"role": "user", "content": t}] for t in texts], list(range(len(texts))), SAMPLING, 32)


def test_replies_in_order_with_sampling_and_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    texts = [f"text {i}" for i in range(20)]
    replies = ask(ServedModel(server.url, "m", "SOME_KEY"), *texts)
    assert replies == [Reply(f"you said {text}", "hm") for text in texts]
    body = next(b for b in server.bodies if b["messages"][0]["content"] == "text 3")
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "text 3"}], "temperature": 0.5, "top_p": 0.9,
        "max_tokens": 32, "seed": 3,
    }  # fmt: skip
    assert {h["Authorization"] for h in server.headers} == {"Bearer s3cret"}


def test_what_was_answered_is_not_asked_again(server: Server, tmp_path) -> None:
    path = tmp_path / "answers.log.jsonl"
    first = ask(ServedModel(server.url, "m", kept=path), "a", "b")
    with path.open("ab") as stream:
        stream.write(b'["torn')
    again = ServedModel(server.url, "m", kept=path)
    assert ask(again, "a", "b", "c")[:2] == first
    assert len(server.bodies) == 3
    assert len(read_kept(path)) == 3


def test_answers_beside_a_failure_are_kept(server: Server, tmp_path) -> None:
    server.refused, server.refused_after = "bad", 3
    path = tmp_path / "answers.log.jsonl"
    with pytest.raises(UserError, match="401"):
        ask(ServedModel(server.url, "m", concurrency=3, kept=path), "bad", "b", "c")
    assert {reply.text for reply in read_kept(path).values()} == {"you said b", "you said c"}


def test_passing_failures_are_asked_again(server: Server) -> None:
    server.failures = ATTEMPTS - 1
    assert ask(ServedModel(server.url, "m", pause_s=0), "a") == [Reply("you said a", "hm")]
    server.failures = ATTEMPTS
    with pytest.raises(UserError, match=r"chain: http://127.*503"):
        ask(ServedModel(server.url, "m", pause_s=0, where="chain"), "a")


def test_refusals_are_not_asked_again(server: Server) -> None:
    server.failures, server.status = 1, 401
    with pytest.raises(UserError, match="401"):
        ask(ServedModel(server.url, "m"), "a")
    assert len(server.bodies) == 1


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="SOME_KEY is not set"):
        ServedModel("http://127.0.0.1:1", "m", "SOME_KEY")
    with pytest.raises(UserError, match="http://"):
        ServedModel("file:///etc/passwd", "m")


@pytest.mark.parametrize("answer", [None, {}, {"choices": []}, {"choices": [1]}, {"choices": [{"message": None}]}])
def test_what_is_no_completion(answer: Any) -> None:
    with pytest.raises(ValueError, match="answer"):
        read_answer(answer)


def test_reasoning_in_its_own_field() -> None:
    message = {"content": "7", "reasoning_content": "3+4"}
    assert read_answer({"choices": [{"message": message, "finish_reason": "length"}]}) == Reply("7", "3+4", "length")
