"""A scripted teacher served as OpenAI chat completions on loopback, for refine's style `words`.

It knows the reference solutions of a GSM8K file, so that runs with a good teacher can be measured without a large
model.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CHECKLIST = re.compile(r"<checklist>\n(.*?)\n</checklist>", re.DOTALL)
_SOLUTION = re.compile(r"<solution>\n(.*?)\n</solution>", re.DOTALL)


class Teacher:
    """Replies to the prompts of refine's roles. `solutions`: start of a question → (reasoning, answer)."""

    def __init__(self, solutions: Mapping[str, tuple[str, str]]) -> None:
        self.solutions = solutions
        self.requests = 0

    def reply(self, prompt: str) -> str:
        """The model's reply. ValueError if the question is unknown."""
        self.requests += 1
        if prompt.startswith("Write a checklist"):
            return "1. The final answer is in a box.\n2. Every step of the calculation is right."
        if prompt.startswith("Judge a solution"):
            items = _found(_CHECKLIST, prompt).split("\n")
            return "\n".join(f"{number}. PASS" for number in range(1, len(items) + 1))
        reasoning, answer = self._solution(prompt)
        if prompt.startswith("Below are a task"):
            result = _found(_SOLUTION, prompt)
            return f"<summary>one step at a time</summary><chain>{reasoning}</chain><result>{result}</result>"
        return answer

    def _solution(self, prompt: str) -> tuple[str, str]:
        for question, solution in self.solutions.items():
            if question in prompt:
                return solution
        raise ValueError(f"unknown question: {prompt[:200]}")


def _found(pattern: re.Pattern[str], prompt: str) -> str:
    match = pattern.search(prompt)
    if match is None:
        raise ValueError(f"no {pattern.pattern} in the prompt: {prompt[:200]}")
    return match.group(1)


@contextmanager
def served(teacher: Teacher) -> Iterator[str]:
    """The base address while the server runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = teacher.reply(asked["messages"][-1]["content"])
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Does not log requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
