"""Client of a server with OpenAI's chat completions (vLLM, llama.cpp, SGLang, and what is sold as a service).

Needs nothing beyond the standard library: concurrency is threads that wait. The key comes from an environment variable
and is written nowhere.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from thinkling.errors import UserError
from thinkling.generate.backends import Messages, Reply
from thinkling.generate.config import ServerConfig
from thinkling.generate.engine import Sampling

ATTEMPTS = 4
_FINAL = frozenset({400, 401, 403, 404, 405, 410, 413, 422})
"""Statuses that asking again does not change."""


class ServedModel:
    """A model behind `<url>/chat/completions`. Implements `Replier`."""

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        pause_s: float = 2.0,
        kept: Path | None = None,
        where: str = "served model",
    ) -> None:
        """`kept`: an append-only file of answers by request, so that a killed run does not ask again. `pause_s`:
        before the second attempt, doubled before each further one. `where`: the field that errors name.

        Raises UserError where the key's variable is not set.
        """
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{where}: url {url!r} starts with neither http:// nor https://")
        self.address, self.model, self.where = url.rstrip("/") + "/chat/completions", model, where
        self.concurrency, self.timeout_s, self.pause_s = concurrency, timeout_s, pause_s
        self._headers = {"Content-Type": "application/json"}
        if key_variable is not None:
            key = os.environ.get(key_variable)
            if not key:
                raise UserError(f"{where}: {key_variable} is not set in the environment")
            self._headers["Authorization"] = f"Bearer {key}"
        self._path, self._lock = kept, threading.Lock()
        self._kept = {} if kept is None else read_kept(kept)

    @classmethod
    def of(cls, config: ServerConfig, kept: Path, where: str) -> ServedModel:
        """The model that a recipe names. Raises UserError as the constructor."""
        return cls(
            config.url or "",
            config.model or "",
            config.key_variable,
            config.concurrency,
            config.timeout_s,
            kept=kept,
            where=where,
        )

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """As `Replier`. Raises UserError where the server refuses, or fails four times in a row."""
        bodies = [
            {
                "model": self.model,
                "messages": [dict(message) for message in messages],
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": limit,
                "seed": seed % 2**31,
            }
            for messages, seed in zip(asked, seeds, strict=True)
        ]
        keys = [hashlib.sha256(json.dumps([self.address, body]).encode()).hexdigest() for body in bodies]
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if key not in self._kept}
        with ThreadPoolExecutor(self.concurrency) as pool:
            under_way = [pool.submit(self._fetch, key, body) for key, body in missing.items()]
            try:
                for future in under_way:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)  # after a failure nothing more is asked
        return [self._kept[key] for key in keys]

    def _fetch(self, key: str, body: Mapping[str, Any]) -> None:
        """Asks, and keeps the answer at once: it was paid for, whatever becomes of the others."""
        reply = self._ask(body)
        with self._lock:
            self._keep(key, reply)

    def _keep(self, key: str, reply: Reply) -> None:
        self._kept[key] = reply
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                answer = [key, reply.text, reply.reasoning, reply.finish_reason]
                stream.write(json.dumps([*answer, _digest(answer)]) + "\n")
                stream.flush()
                os.fsync(stream.fileno())

    def _ask(self, body: Mapping[str, Any]) -> Reply:
        for attempt in range(1, ATTEMPTS + 1):
            request = urllib.request.Request(self.address, json.dumps(body).encode(), self._headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    return read_answer(json.load(response))
            except (OSError, http.client.HTTPException, ValueError) as error:
                status = error.code if isinstance(error, urllib.error.HTTPError) else None
                if status in _FINAL or attempt == ATTEMPTS:
                    raise UserError(f"{self.where}: {self.address} gave no answer ({error})") from error
                time.sleep(self.pause_s * 2 ** (attempt - 1))
        raise AssertionError("the loop returns or raises")


def read_answer(answer: Any) -> Reply:
    """The first choice of a chat completion, with reasoning from its own field or from before `</think>`.

    Raises ValueError if there is no choice.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("the answer is no chat completion")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise ValueError("the answer has no message")
    text = str(message.get("content") or "")
    reasoning = str(message.get("reasoning_content") or message.get("reasoning") or "")
    inside, closed, rest = text.rpartition("</think>")
    if closed:
        reasoning, text = reasoning or inside.strip().removeprefix("<think>"), rest
    return Reply(text.strip(), reasoning.strip(), str(choices[0].get("finish_reason") or "stop"))


def read_kept(path: Path) -> dict[str, Reply]:
    """Answers of a run that was cut off; a torn last line is cut away, since the next one is written behind it. Lines
    that are not as they were written are left out with a warning, so that their questions are asked again."""
    if not path.exists():
        return {}
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    os.truncate(path, len(whole) + len(newline))
    found: dict[str, Reply] = {}
    for number, line in enumerate(whole.split(b"\n") if newline else [], 1):
        try:
            *answer, digest = json.loads(line)
            key, text, reasoning, reason = answer
        except (ValueError, TypeError):
            answer, digest = [], None
        if not answer or digest != _digest(answer):
            warnings.warn(f"{path}: line {number} is damaged; its question is asked again", stacklevel=2)
            continue
        found[key] = Reply(text, reasoning, reason)
    return found


def _digest(answer: list[Any]) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:16]
