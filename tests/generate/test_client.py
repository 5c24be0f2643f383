"""The served protocol against a small server in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from thinkling.errors import UserError
from thinkling.generate.answers import KeptAnswers, read_kept
from thinkling.generate.backends import Reply
from thinkling.generate.client import ServedModel
from thinkling.generate.config import ServerConfig
from thinkling.generate.engine import Sampling
from thinkling.generate.served_reply import read_answer
from thinkling.generate.usage import Usage

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


def served(url: str, kept: Path | None = None, pause_s: float = 0.0, **fields: Any) -> ServedModel:
    return ServedModel(ServerConfig(url=url, model="m", **fields), "chain", kept, pause_s=pause_s)


def ask(model: ServedModel, *texts: str) -> list[Reply]:
    return model.reply([[{"role": "user", "content": t}] for t in texts], list(range(len(texts))), SAMPLING, 32)


def test_replies_in_order_with_sampling_and_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    texts = [f"text {i}" for i in range(20)]
    replies = ask(served(server.url, key_variable="SOME_KEY"), *texts)
    assert replies == [Reply(f"you said {text}", "hm") for text in texts]
    body = next(b for b in server.bodies if b["messages"][0]["content"] == "text 3")
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "text 3"}], "temperature": 0.5, "top_p": 0.9,
        "max_tokens": 32, "seed": 3,
    }  # fmt: skip
    assert {h["Authorization"] for h in server.headers} == {"Bearer s3cret"}


def test_what_was_answered_is_not_asked_again(server: Server, tmp_path) -> None:
    first = ask(served(server.url, tmp_path), "a", "b")
    (path,) = tmp_path.iterdir()
    with path.open("ab") as stream:
        stream.write(b'["torn')
    again = served(server.url, tmp_path)
    assert ask(again, "a", "b", "c")[:2] == first
    assert len(server.bodies) == 3
    assert len(read_kept(path)) == 3


def test_answers_beside_a_failure_are_kept(server: Server, tmp_path) -> None:
    server.refused, server.refused_after = "bad", 3
    with pytest.raises(UserError, match="401"):
        ask(served(server.url, tmp_path, concurrency=3), "bad", "b", "c")
    assert {reply.text for reply, _ in read_kept(next(tmp_path.iterdir())).values()} == {"you said b", "you said c"}


def test_passing_failures_are_asked_again(server: Server) -> None:
    server.failures = 9
    assert ask(served(server.url), "a") == [Reply("you said a", "hm")]
    server.failures = 10**6
    with pytest.raises(UserError, match=r"chain: http://127.*503"):
        ask(served(server.url, patience_s=0.01), "a")


def test_refusals_are_not_asked_again(server: Server) -> None:
    server.failures, server.status = 1, 401
    with pytest.raises(UserError, match="401"):
        ask(served(server.url), "a")
    assert len(server.bodies) == 1


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="SOME_KEY is not set"):
        served("http://127.0.0.1:1", key_variable="SOME_KEY")
    with pytest.raises(ValidationError, match="url"):
        served("file:///etc/passwd")
    with pytest.raises(UserError, match="chain: url and model"):
        ServedModel(ServerConfig(), "chain")


def test_processes_that_append_at_the_same_time_lose_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    writers = [KeptAnswers(path) for _ in range(4)]

    def write(number: int) -> None:
        for i in range(50):
            writers[number].keep(f"{number}-{i}", Reply("é" * 3000, "hm", "length"), Usage(i))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_kept(path)
    assert len(found) == 200
    assert found["3-7"] == (Reply("é" * 3000, "hm", "length"), Usage(7))


def test_the_same_messages_with_other_seeds_are_other_samples_also_where_no_seed_is_sent(server: Server) -> None:
    model = served(server.url, omit=["seed"])
    ask(model, "a", "a")
    assert len(server.bodies) == 2
    assert "seed" not in server.bodies[0]


@pytest.mark.parametrize("answer", [None, {}, {"choices": []}, {"choices": [1]}, {"choices": [{"message": None}]}])
def test_what_is_no_completion(answer: Any) -> None:
    with pytest.raises(ValueError, match="answer"):
        read_answer(answer)


def test_reasoning_in_its_own_field() -> None:
    message = {"content": "7", "reasoning_content": "3+4"}
    assert read_answer({"choices": [{"message": message, "finish_reason": "length"}]}) == Reply("7", "3+4", "length")
