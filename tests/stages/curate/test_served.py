"""A served model as annotator, over a real local server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.stages.curate import served
from thinkling.stages.curate.annotate import Example
from thinkling.stages.curate.config import ServedAnnotatorConfig
from thinkling.stages.curate.served import ServedAnnotator, chat_completions, parse_grades, prompt_for
from thinkling.stages.curate.tags import TAGS

EXAMPLES = [Example(f"text {i}", "unknown") for i in range(6)]


@pytest.mark.parametrize(
    ("answer", "grades"),
    [
        ('{"prose": 3, "length": 9}', {"prose": 3, "length": 9}),
        ('<think>{"prose": 1}</think> So: {"prose": 3}', {"prose": 3}),
        ('{"prose": 10, "length": -1, "depth": "4", "beauty": 3, "density": true, "variety": 2.5}', {}),
        ("no object", {}),
        ("{broken", {}),
        ("{'prose': 3}", {}),
    ],
)
def test_answers_are_read_strictly(answer: str, grades: dict[str, int]) -> None:
    assert parse_grades(answer) == grades


def test_the_prompt_states_every_tag_and_nothing_of_the_source() -> None:
    prompt = prompt_for("some text")
    assert all(f"- {tag.name}: {tag.definition}" in prompt for tag in TAGS)
    assert prompt.endswith("<text>\nsome text\n</text>")


def test_kept_answers_are_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[str] = []
    broken = True

    def complete(prompt: str) -> str:
        asked.append(prompt)
        if broken and "text 3" in prompt:
            raise UserError("cut off")
        return json.dumps({"prose": int(prompt.rpartition("</text>")[0].strip()[-1])})

    path = tmp_path / "answers.jsonl"
    with pytest.raises(UserError, match="cut off"):
        ServedAnnotator(complete, path).annotate(EXAMPLES)
    path.write_bytes(path.read_bytes() + b'{"prompt": "torn')
    broken = False
    asked.clear()
    expected = [{"prose": i} for i in range(6)]
    assert ServedAnnotator(complete, path).annotate(EXAMPLES) == expected
    assert [prompt.rpartition("</text>")[0].strip()[-1] for prompt in asked] == ["3", "4", "5"]
    asked.clear()
    assert ServedAnnotator(complete, path).annotate([*EXAMPLES, *EXAMPLES]) == expected * 2
    assert asked == []


def test_a_model_that_never_answers_in_grades_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grading\.annotator: no answer"):
        ServedAnnotator(lambda prompt: "I cannot", tmp_path / "a.jsonl").annotate(EXAMPLES)


class _Handler(BaseHTTPRequestHandler):
    failures = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer secret" or body["model"] != "m":
            self.send_error(401)
            return
        if type(self).failures > 0:
            type(self).failures -= 1
            self.send_error(503)
            return
        text = body["messages"][0]["content"].rpartition("<text>")[2]
        content = json.dumps({"length": len(text.split())})
        answer = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_over_http(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_PAUSE_S", 0.0)
    config = ServedAnnotatorConfig(url=url, model="m", key_variable="TEST_ANNOTATOR_KEY", concurrency=3)
    with pytest.raises(UserError, match="TEST_ANNOTATOR_KEY is not set"):
        chat_completions(config)
    monkeypatch.setenv("TEST_ANNOTATOR_KEY", "secret")
    _Handler.failures = 2
    annotator = ServedAnnotator(chat_completions(config), tmp_path / "a.jsonl", config.concurrency)
    assert annotator.annotate(EXAMPLES) == [{"length": 3}] * 6
    assert "secret" not in (tmp_path / "a.jsonl").read_text()
    monkeypatch.setenv("TEST_ANNOTATOR_KEY", "wrong")
    with pytest.raises(UserError, match="gave no answer"):
        chat_completions(config)("prompt")
