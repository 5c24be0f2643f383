import json
import signal
import time
from typing import Any

import pytest

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import MISSING, Outcome, Status, judge

REPLY = {"exit": 0, "signal": None, "stopped": None, "seconds": 0.1, "cpu_seconds": 0.1}


def outcome_of(results: bytes, tests: int = 0, **reply: Any) -> Outcome:
    return judge({**REPLY, **reply}, (b"out", b"err", results), ["mark"], tests, Limits(cpu_seconds=2))


def line(**report: Any) -> bytes:
    return b"mark " + json.dumps(report).encode() + b"\n"


def test_a_child_that_did_not_lock_itself_in_is_the_sandboxs_failure() -> None:
    for results in (b"", b"FOSError: no Landlock", b"garbage"):
        outcome = outcome_of(results, tests=2, exit=70)
        assert outcome.status is Status.UNAVAILABLE
        assert outcome.tests == (MISSING, MISSING)
    assert "no Landlock" in outcome_of(b"FOSError: no Landlock", exit=70).detail


@pytest.mark.parametrize(
    ("reply", "error", "status"),
    [
        ({}, "", Status.OK),
        ({"exit": 1}, "ValueError", Status.ERROR),
        ({"exit": 1}, "MemoryError", Status.MEMORY),
        ({"exit": 1}, "EFBIG", Status.OUTPUT),
        ({"exit": 70}, "", Status.ERROR),
        ({"exit": None, "signal": signal.SIGSEGV}, "", Status.ERROR),
        ({"exit": None, "signal": signal.SIGSYS}, "", Status.POLICY),
        ({"exit": None, "signal": signal.SIGXCPU}, "", Status.TIMEOUT),
        ({"exit": None, "signal": signal.SIGKILL, "cpu_seconds": 3.0}, "", Status.TIMEOUT),
        ({"exit": None, "signal": signal.SIGKILL}, "", Status.UNAVAILABLE),
        ({"exit": None, "signal": signal.SIGKILL, "stopped": "wall"}, "", Status.TIMEOUT),
        ({"exit": None, "signal": signal.SIGKILL, "stopped": "output"}, "", Status.OUTPUT),
        ({"exit": None, "signal": signal.SIGKILL, "stopped": "disk"}, "", Status.OUTPUT),
        ({"exit": None, "signal": signal.SIGKILL, "stopped": "threads"}, "", Status.POLICY),
        ({"exit": None, "signal": 50}, "", Status.ERROR),
    ],
)
def test_what_the_kernel_saw_decides(reply: dict[str, Any], error: str, status: Status) -> None:
    results = b"R" + (line(kind="end", error=error) if error else b"")
    assert outcome_of(results, **reply).status is status


def test_reports_without_the_mark_or_out_of_form_are_passed_over() -> None:
    results = b"R" + b"".join(
        (
            b"guess " + json.dumps({"kind": "test", "at": 0}).encode() + b"\n",
            json.dumps({"kind": "test", "at": 0}).encode() + b"\n",
            line(kind="test", at=True),
            line(kind="test", at=7),
            line(kind="test", at=-1),
            line(kind="test", at="0"),
            b"mark " + b"[" * 100000 + b"\n",
            b'mark {"at": ' + b"1" * 5000 + b"}\n",
            b"mark \xff\xfe\nmark []\nmark 1\nmark\nmark \n",
            line(kind="test", at=1, error="ValueError", shown=5),
            line(kind="test", at=0),
            line(kind="test", at=0, error="late"),
        )
    )
    first, second, third = outcome_of(results, tests=3).tests
    assert (first.passed, first.error) == (True, "")
    assert (second.passed, second.error, second.shown) == (False, "ValueError", "")
    assert third == MISSING


def test_a_programs_own_reports_decide_no_test() -> None:
    """It finds the mark of its reports in its memory; those of the tester have another, and another pipe."""
    streams = (b"", b"", b"R" + line(kind="test", at=0) + b"other " + line(kind="test", at=0), b"R")
    outcome = judge(REPLY, streams, ["mark", "other"], 1, Limits())
    assert outcome.tests == (MISSING,)


def test_a_tester_that_did_not_lock_itself_in_is_the_sandboxs_failure() -> None:
    for reports in ((b"R", b""), (b"R", b"FOSError: no"), (b"FOSError: no", b"R")):
        outcome = judge(REPLY, (b"", b"", *reports), ["mark", "other"], 1, Limits())
        assert outcome.status is Status.UNAVAILABLE


def test_a_flood_of_lines_costs_little() -> None:
    started = time.monotonic()
    outcome_of(b"R" + b"\n" * 2**20)
    outcome_of(b"R" + line(kind="test", at=0) * 30000, tests=1)
    assert time.monotonic() - started < 5
