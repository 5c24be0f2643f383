"""Client for servers with OpenAI's chat completions API (vLLM, llama.cpp, SGLang and hosted services).

The client needs only the standard library; concurrent requests run in threads. The API key is read from an environment
variable and never written anywhere. docs/served.md describes what is sent, retried, counted and stored.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from thinkling.errors import UserError
from thinkling.generate.answers import KeptAnswers, key_of
from thinkling.generate.backends import Messages, Reply
from thinkling.generate.config import ServerConfig
from thinkling.generate.engine import Sampling
from thinkling.generate.failures import Failure, post
from thinkling.generate.pace import FIRST_PAUSE_S, Pace, Stopped, pause_after
from thinkling.generate.served_reply import read_answer
from thinkling.generate.usage import Spending, Usage
from thinkling.progress import Progress, Silent

UNREADABLE_ATTEMPTS = 4
"""Number of answers that are not chat completions after which a request is no longer retried. The number is low because
each answer may be charged for."""
WARN_EVERY_S = 30.0


class ServedModel:
    """A model behind `<url>/chat/completions`. Implements `Replier`."""

    def __init__(
        self, config: ServerConfig, where: str = "served model", kept: Path | None = None,
        progress: Progress | None = None, pause_s: float = FIRST_PAUSE_S,
    ) -> None:  # fmt: skip
        """`where`: the recipe field to which errors refer. `kept`: the directory in which answers are stored by
        request; if None, they are stored only in memory. `pause_s`: seconds before the second attempt.

        Raises UserError if the config has no url or model, or if the key's environment variable is unset or invalid.
        """
        if config.url is None or config.model is None:
            raise UserError(f"{where}: url and model must both be set")
        self.config, self.where, self.pause_s = config, where, pause_s
        self.address = config.url.rstrip("/") + "/chat/completions"
        self._progress = progress or Silent()
        self._headers = {"Content-Type": "application/json"} | config.headers
        self._key = ""
        if config.key_variable is not None:
            self._key = os.environ.get(config.key_variable, "").strip()
            if not self._key:
                raise UserError(
                    f"{where}.key_variable: the environment variable {config.key_variable} is not set; set it to the "
                    "API key"
                )
            if not (self._key.isascii() and self._key.isprintable()):
                raise UserError(
                    f"{where}.key_variable: the value of the environment variable {config.key_variable} contains "
                    "characters other than printable ASCII; set it to the API key alone"
                )
            bearer = "Bearer " if config.key_header.lower() == "authorization" else ""
            self._headers[config.key_header] = bearer + self._key
        self.answers = KeptAnswers.of(kept, self.address, config.model)
        self.spending = Spending(config.prices, config.budget)
        self._counted: set[str] = set()
        self._lock = threading.Lock()
        self._pace = Pace(config.limits)
        self._in_flight = 0
        self._warned = float("-inf")

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """See `Replier.reply`. Raises UserError if the server rejects a request, if its failures last longer than
        `patience_s`, or if the budget is spent."""
        bodies = [self.body(*one, sampling, limit) for one in zip(asked, seeds, strict=True)]
        keys = [key_of(self.address, body, seed) for body, seed in zip(bodies, seeds, strict=True)]
        missing = {}
        for key, body in zip(keys, bodies, strict=True):
            found = self.answers.get(key)
            if found is None:
                missing[key] = body
            else:
                self._count(key, found[1], now=False)
        if missing:
            self._fetch_all(missing)
        found = [self.answers.get(key) for key in keys]
        return [one[0] for one in found if one is not None]

    def recount(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> None:
        """Adds to the counts the usage of answers that a killed run had already read and written into its artifact."""
        for messages, seed in zip(asked, seeds, strict=True):
            key = key_of(self.address, self.body(messages, seed, sampling, limit), seed)
            if (found := self.answers.get(key)) is not None:
                self._count(key, found[1], now=False)

    def body(self, messages: Messages, seed: int, sampling: Sampling, limit: int) -> dict[str, Any]:
        """Returns the JSON body of a request."""
        config = self.config
        own: dict[str, Any] = {
            "model": config.model,
            "messages": [dict(message) for message in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            config.max_tokens_field: limit,
            "seed": seed % 2**31,
        }
        if config.reasoning_effort is not None:
            own["reasoning_effort"] = config.reasoning_effort
        return config.extra_body | {name: value for name, value in own.items() if name not in config.omit}

    def _fetch_all(self, missing: Mapping[str, Mapping[str, Any]]) -> None:
        self._pace.begin()
        with (
            self._progress.track(self.where, len(missing), "replies") as task,
            ThreadPoolExecutor(self.config.concurrency) as pool,
        ):
            try:
                under_way = [pool.submit(self._fetch, key, body) for key, body in missing.items()]
                for future in under_way:
                    future.add_done_callback(lambda _: task.advance())
                done, _ = wait(under_way, return_when=FIRST_EXCEPTION)
            finally:
                self._pace.stop()  # no new requests after a failure; answers to requests in flight are still stored
                pool.shutdown(cancel_futures=True)
        errors = [error for future in done if (error := future.exception()) is not None]
        raise_first = [error for error in errors if not isinstance(error, Stopped)]
        if raise_first:
            raise raise_first[0]

    def _fetch(self, key: str, body: Mapping[str, Any]) -> None:
        """Sends a request and stores the answer immediately, because it is paid for even if other requests fail."""
        with self._lock:
            self.spending.check(self.where, self._in_flight)
            self._in_flight += 1
        try:
            reply, usage = self._ask(body)
            self.answers.keep(key, reply, usage)
            self._count(key, usage, now=True)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _count(self, key: str, usage: Usage | None, now: bool) -> None:
        with self._lock:
            if key not in self._counted:
                self._counted.add(key)
                self.spending.add(usage, now)

    def _ask(self, body: Mapping[str, Any]) -> tuple[Reply, Usage | None]:
        attempt, unreadable, failed_since = 0, 0, None
        while True:
            attempt += 1
            try:
                return self._attempt(body)
            except Failure as error:
                failure = error
            except ValueError as error:
                unreadable += 1
                failure = Failure(str(error), passing=unreadable < UNREADABLE_ATTEMPTS)
            now = time.monotonic()
            failed_since = now if failed_since is None else failed_since
            left = self.config.patience_s - (now - failed_since)
            pause = pause_after(attempt, failure.wait_s, self.pause_s)
            if not failure.passing or left <= 0 or failure.wait_s > left:
                raise UserError(f"{self.where}: {self.address}: {self._why(failure, attempt, left)}") from failure
            self._say_waiting(failure, pause, left)
            if failure.wait_s:
                self._pace.hold(failure.wait_s)
            self._pace.sleep(min(pause, left))

    def _attempt(self, body: Mapping[str, Any]) -> tuple[Reply, Usage | None]:
        self._pace.start()
        tokens = 0
        try:
            answer = post(self.address, body, self._headers, self.config.timeout_s)
            usage = Usage.of(answer)
            tokens = 0 if usage is None else usage.total
            return read_answer(answer), usage
        finally:
            self._pace.end(tokens)

    def _why(self, failure: Failure, attempts: int, left: float) -> str:
        words = self._redacted(str(failure))
        if not failure.passing:
            return words
        if failure.wait_s > max(left, 0.0):
            return (
                f"{words} (the server asks for a wait of {failure.wait_s:.0f} s, but only {max(left, 0):.0f} s of "
                f"patience_s {self.config.patience_s:g} are left; raise patience_s or rerun later; stored answers are "
                "reused)"
            )
        return (
            f"{words} ({attempts} attempts, patience_s {self.config.patience_s:g} exhausted; raise patience_s or "
            "rerun later; stored answers are reused)"
        )

    def _say_waiting(self, failure: Failure, pause: float, left: float) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._warned < WARN_EVERY_S:
                return
            self._warned = now
            answered = self.spending.requests
        self._progress.warn(
            f"{self.where}: {self._redacted(str(failure))}; retrying in {pause:.0f} s, for up to {left:.0f} s more "
            f"({answered:,} answered)"
        )

    def _redacted(self, words: str) -> str:
        return words.replace(self._key, "…") if self._key else words


def report_spending(spent: Mapping[str, Spending], stage: str, progress: Progress) -> dict[str, Any]:
    """Prints one line per served model, and returns the counts for the manifest by recipe field.

    `spent` maps the recipe field of a model to the model's usage; fields that specify the same model share one
    `Spending`.
    """
    found: dict[int, tuple[str, Spending]] = {}
    for name, one in spent.items():
        found.setdefault(id(one), (name, one))
    for name, one in found.values():
        kept = one.requests - one.asked_now
        before = f"; {kept:,} of them were answered earlier and were not sent again" if kept else ""
        progress.note(f"stages.{stage}.{name}: {one.line()}{before}")
    return {name: one.counts() for name, one in found.values()}
