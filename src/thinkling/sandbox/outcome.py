"""The result of a run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from thinkling.errors import UserError
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.protocol import ENDED, FAILED, READY

LONGEST_DETAIL = 300


class SandboxUnavailable(UserError):
    """Raised if this machine cannot run untrusted code safely. The message states the reason."""


class Status(StrEnum):
    """How a run ended.

    - `ok`: the program ended with exit status 0.
    - `error`: the program raised an exception, crashed, or ended with a different exit status.
    - `timeout`, `memory`, `output` (which includes files): the program exceeded a limit.
    - `policy`: the program made a system call that only an attack makes, or started too many threads.
    - `unavailable`: the sandbox failed. The program is not at fault, and the run is never scored."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    POLICY = "policy"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class TestResult:
    """The tester's report on one test."""

    __test__ = False
    passed: bool
    error: str = ""
    """Name of the type of the exception; empty if the test passed."""
    shown: str = ""
    """Shortened repr of the exception, for display."""


MISSING = TestResult(passed=False, error="not reached")


@dataclass(frozen=True)
class Outcome:
    """The result of a run. `seconds` and `cpu_seconds` vary between runs; the other fields are the same for equal
    programs and limits."""

    status: Status
    stdout: str
    stderr: str
    exit_code: int | None
    """Exit status; None if a signal ended the program."""
    signal: str
    """Name of the signal that ended the program, or empty."""
    error: str
    """Name of the type of the program's uncaught exception, as reported by the program, or empty."""
    detail: str
    """One line of explanation, for display."""
    seconds: float
    cpu_seconds: float
    tests: tuple[TestResult, ...] = ()
    """One result per test of the job."""


def unavailable(detail: str, tests: int = 0) -> Outcome:
    """Return the outcome of a run that the sandbox could not perform."""
    return Outcome(Status.UNAVAILABLE, "", "", None, "", "", detail, 0.0, 0.0, (MISSING,) * tests)


def judge(
    reply: dict[str, Any], streams: Sequence[bytes | bytearray], nonces: Sequence[str], tests: int, limits: Limits
) -> Outcome:
    """Convert the server's reply to an outcome. The outcome is based on the observations of the kernel and the server.
    The program's own report only distinguishes kinds of failure, so that a program cannot pass off its own failure as a
    failure of the sandbox.

    `streams`: standard output, standard error, the program's reports, and those of the tester if there is one;
    `nonces`: the marks that authenticate the reports."""
    stdout, stderr, *reports = streams
    for one in reports:
        if one[:1] != READY:
            reason = one.removeprefix(FAILED).decode("utf-8", "replace") or "it ended while locking itself in"
            return unavailable(f"the sandbox could not be closed: {reason}", tests)
    _, error = _reports(reports[0][1:], nonces[0], 0)
    found, _ = _reports(reports[-1][1:], nonces[-1], tests)
    ended_by = reply["signal"]
    status, detail = _status(reply, error, limits)
    return Outcome(
        status=status,
        stdout=stdout.decode("utf-8", "replace"),
        stderr=stderr.decode("utf-8", "replace"),
        exit_code=reply["exit"],
        signal="" if ended_by is None else _signal_name(ended_by),
        error=error,
        detail=detail,
        seconds=reply["seconds"],
        cpu_seconds=reply["cpu_seconds"],
        tests=tuple(found),
    )


def read_reply(reply: bytes, asked: str | None) -> dict[str, Any]:
    """Parse a server's reply, which reports how a child ended. `asked`: the reason why the caller asked the server to
    stop the child, or None."""
    status, seconds, cpu_seconds = ENDED.unpack_from(reply)
    stopped = reply[ENDED.size :].decode() or None
    # The server's observation takes precedence over `asked`, because the program may have ended before it was stopped.
    if stopped == "asked" or (stopped is None and asked != "wall"):
        stopped = asked
    return {
        "exit": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "stopped": stopped,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def _status(reply: dict[str, Any], error: str, limits: Limits) -> tuple[Status, str]:
    match reply["stopped"]:
        case "wall":
            return Status.TIMEOUT, f"more than {limits.wall_seconds:g} s of clock time"
        case "output":
            return Status.OUTPUT, f"more than {limits.output_bytes} bytes of output"
        case "disk":
            return Status.OUTPUT, f"more than {limits.disk_bytes} bytes or too many files in its folder"
        case "threads":
            return Status.POLICY, f"more than {limits.threads} threads"
    over = f"more than {limits.cpu_seconds} s of processor time"
    match reply["signal"]:
        case None:
            pass
        case signal.SIGXCPU:
            return Status.TIMEOUT, over
        case signal.SIGSYS:
            return Status.POLICY, "a system call that only an attack makes"
        case signal.SIGKILL:
            if reply["cpu_seconds"] >= limits.cpu_seconds:
                return Status.TIMEOUT, over
            return Status.UNAVAILABLE, "killed from outside: the machine may have run out of memory"
        case number:
            return Status.ERROR, f"ended by signal {number}"
    if reply["exit"] == 0:
        return Status.OK, ""
    if error == "MemoryError":
        return Status.MEMORY, f"more than {limits.memory_bytes} bytes of address space"
    if error == "EFBIG":
        return Status.OUTPUT, f"more than {limits.disk_bytes} bytes in a file"
    return Status.ERROR, error or f"exit status {reply['exit']}"


def _reports(results: bytes | bytearray, nonce: str, tests: int) -> tuple[list[TestResult], str]:
    """Parse the reports of a child. Each line consists of the mark that authenticates the line and a JSON object.
    Reports are untrusted: malformed lines are skipped, and lines without the mark are not parsed."""
    found, error = [MISSING] * tests, ""
    mark = nonce.encode() + b" "
    for line in results.split(b"\n"):
        if not line.startswith(mark):
            continue
        try:
            report = json.loads(line[len(mark) :])
        except (ValueError, RecursionError):
            continue
        if not isinstance(report, dict):
            continue
        if report.get("kind") == "end":
            error = _text(report, "error")
        at = report.get("at")
        if report.get("kind") == "test" and type(at) is int and 0 <= at < tests and found[at] is MISSING:
            found[at] = TestResult("error" not in report, _text(report, "error"), _text(report, "shown"))
    return found, error


def _text(report: dict[str, Any], key: str) -> str:
    value = report.get(key, "")
    return value if isinstance(value, str) else ""
