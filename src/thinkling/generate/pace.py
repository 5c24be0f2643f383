"""Pacing of the requests to a served model: per-minute limits, and pauses after failures."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

from thinkling.generate.config import LimitsConfig

_MINUTE = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Stopped(Exception):
    """Another request has failed permanently, or the run is being stopped."""


class Pace:
    """Decides when the next request may start; shared by all threads that send requests to one server."""

    def __init__(self, limits: LimitsConfig | None = None) -> None:
        self.limits = limits or LimitsConfig()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0
        self._started: deque[float] = deque()
        self._taken: deque[tuple[float, int]] = deque()
        self._in_flight = 0

    def begin(self) -> None:
        """Must be called before a batch of requests; cancels an earlier `stop`."""
        self._stop.clear()

    def stop(self) -> None:
        """Makes all waiting threads raise Stopped."""
        self._stop.set()

    def sleep(self, seconds: float) -> None:
        """Waits for this many seconds. Raises Stopped if `stop` is called."""
        if self._stop.wait(max(seconds, 0.0)):
            raise Stopped

    def hold(self, seconds: float) -> None:
        """Delays all requests by this many seconds, because the server has asked one of them to wait."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def start(self) -> None:
        """Waits until a request may start. Raises Stopped if `stop` is called."""
        while True:
            with self._lock:
                wait = self._wait(time.monotonic())
                if wait <= 0:
                    self._started.append(time.monotonic())
                    self._in_flight += 1
                    break
            self.sleep(wait)
        if self._stop.is_set():
            self.end(0)
            raise Stopped

    def end(self, tokens: int) -> None:
        """Records that a request has ended and used this many tokens."""
        with self._lock:
            self._in_flight -= 1
            if tokens:
                self._taken.append((time.monotonic(), tokens))

    def _wait(self, now: float) -> float:
        while self._started and self._started[0] <= now - _MINUTE:
            self._started.popleft()
        while self._taken and self._taken[0][0] <= now - _MINUTE:
            self._taken.popleft()
        wait = self._not_before - now
        per_minute = self.limits.requests_per_minute
        if per_minute is not None and len(self._started) >= per_minute:
            wait = max(wait, self._started[len(self._started) - per_minute] + _MINUTE - now)
        tokens = self.limits.tokens_per_minute
        if tokens is not None and self._taken:
            taken = sum(n for _, n in self._taken)
            mean = taken / len(self._taken)
            if taken + mean * (self._in_flight + 1) > tokens:
                wait = max(wait, self._taken[0][0] + _MINUTE - now)
        elif tokens is not None and self._in_flight:
            wait = max(wait, 0.1)  # until a request is answered, the tokens per request are unknown
        return wait


def pause_after(attempt: int, least_s: float, first_s: float = FIRST_PAUSE_S) -> float:
    """Seconds before the next attempt: `least_s`, which the server asked for, plus a pause that doubles with every
    attempt. Random jitter shortens the pause by up to half, so that requests that failed together are not retried
    together."""
    longest = min(first_s * 2 ** min(attempt - 1, 30), LONGEST_PAUSE_S)
    return least_s + longest * random.uniform(0.5, 1.0) if least_s else longest * random.uniform(0.5, 1.0)
