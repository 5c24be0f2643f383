"""Failed requests to a server: the error message, and whether a retry can help."""

from __future__ import annotations

import http.client
import json
import math
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import IO, Any

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
"""HTTP statuses of transient failures. Statuses from 520 on are sent by proxies in front of servers."""
MOST_CHARACTERS = 300
"""Maximum number of characters of a server's message that an error quotes."""
_MOST_BYTES = 65536
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
"""Error codes in responses with status 429 for which waiting does not help."""


class Failure(Exception):
    """An attempt that did not return an answer. `passing`: whether the failure is transient."""

    def __init__(self, words: str, status: int | None = None, passing: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(words)
        self.words, self.status, self.passing, self.wait_s = words, status, passing, wait_s

    def __str__(self) -> str:
        return self.words if self.status is None else f"HTTP {self.status}: {self.words}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, which would send the key to a different address and drop the request's body."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def post(address: str, body: Mapping[str, Any], headers: Mapping[str, str], timeout_s: float) -> Any:
    """Sends a POST request and returns the server's JSON answer. Raises Failure if the request fails."""
    request = urllib.request.Request(address, json.dumps(body).encode(), dict(headers))
    try:
        with _OPENER.open(request, timeout=timeout_s) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise _of_status(error.code, _body(error), dict(error.headers.items()), str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise _of_connection(error, timeout_s) from error
    if isinstance(answer, dict) and answer.get("error"):  # some proxies report failures with status 200
        code = answer["error"].get("code") if isinstance(answer["error"], dict) else None
        status = code if type(code) is int else None
        raise Failure(words_of(json.dumps(answer), "an error"), status, status is None or status in PASSING)
    return answer


def _body(error: urllib.error.HTTPError) -> str:
    stream: IO[bytes] = error
    try:
        return stream.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _of_status(status: int, body: str, headers: Mapping[str, str], reason: str) -> Failure:
    if 300 <= status < 400:
        there = _header(headers, "location") or "another address"
        return Failure(
            f"the server redirects to {one_line(there)}; set url to the final address", status, passing=False
        )
    passing = status in PASSING and not (status == 429 and any(code in body for code in _SPENT))
    return Failure(words_of(body, reason), status, passing, wait_of(headers))


def _of_connection(error: Exception, timeout_s: float) -> Failure:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Failure(f"the server's certificate is not trusted ({one_line(str(cause))})", passing=False)
    if isinstance(cause, TimeoutError):
        return Failure(f"no answer within timeout_s {timeout_s:g}")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Failure("the answer is not JSON")
    if isinstance(error, RecursionError):
        return Failure("the answer is nested too deeply")
    return Failure(one_line(str(cause)) or type(cause).__name__)


def words_of(body: str, otherwise: str) -> str:
    """Extracts the message of an error response and returns it on one line. The response is in OpenAI's or FastAPI's
    format, or plain text, whose markup is removed. `otherwise` is returned if there is no message."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return one_line(re.sub(r"<[^<>]*>", " ", body)) or one_line(otherwise)
    for name in ("error", "message", "detail", "title"):
        while isinstance(found, dict) and found.get(name):
            found = found[name]
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return one_line(text) or one_line(otherwise)


def one_line(text: str) -> str:
    """Returns the text without line breaks and control characters, truncated to MOST_CHARACTERS."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds to wait according to Retry-After, a number of seconds or a date; 0 if the header is absent or invalid."""
    given = _header(headers, "retry-after").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")
