"""Sessions: one process, call after call."""

import os
import signal
import time
from pathlib import Path

import pytest

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import SandboxUnavailable, Status
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.session import MOST_CODE, Session

QUICK = Limits(cpu_seconds=10, wall_seconds=0.5)
PATIENT = Limits(cpu_seconds=20, wall_seconds=60.0)


def said(session: Session, code: str) -> str:
    call = session.run(code)
    assert (call.status, call.ended, call.stderr) == (Status.OK, False, "")
    return call.stdout


def test_variables_imports_and_files_stay(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        said(session, "import math\nx = math.isqrt(50)\nopen('note', 'w').write('kept')")
        assert said(session, "x") == "7\n"
        assert said(session, "print(open('note').read(), x + 1)") == "kept 8\n"


def test_the_value_of_a_last_expression_is_printed(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        assert said(session, "print('a')\n'b'") == "a\n'b'\n"
        assert said(session, "None") == ""
        assert said(session, "y = 5") == ""
        assert said(session, "") == ""
        assert said(session, "def f():\n    return 3\nf()\n") == "3\n"


def test_an_exception_ends_the_call_not_the_process(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        said(session, "x = 5")
        call = session.run("print('before')\ndef f():\n    return 1 / 0\nf()")
        assert (call.status, call.stdout, call.detail, call.ended) == (
            Status.ERROR,
            "before\n",
            "ZeroDivisionError",
            False,
        )
        assert '  File "<call 2>", line 3, in f\n    return 1 / 0\n' in call.stderr
        assert call.stderr.endswith("ZeroDivisionError: division by zero\n")
        assert "cells.py" not in call.stderr
        assert session.run("x +").detail == "SyntaxError"
        assert session.run("import sys\nsys.exit(3)").detail == "SystemExit"
        assert said(session, "import sys\nsys.exit()") == ""
        assert session.run("input()").detail == "EOFError"
        assert session.run("bytearray(10**10)").detail == "MemoryError"
        assert said(session, "x") == "5\n"


def test_what_a_call_makes_of_the_streams_does_not_silence_the_next(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        said(session, "import io, sys\nsys.stdout = io.StringIO()\nprint('lost')")
        assert said(session, "print('here')") == "here\n"


def test_a_call_past_its_clock_ends_the_process(sandbox: Sandbox) -> None:
    with sandbox.session(QUICK) as session:
        said(session, "x = 1")
        call = session.run("print('a', flush=True)\nwhile True: pass")
        assert (call.status, call.stdout, call.ended) == (Status.TIMEOUT, "a\n", True)
        with pytest.raises(ValueError, match="has ended"):
            session.run("x")


def test_the_clock_of_a_call_can_be_shorter(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        call = session.run("import time\ntime.sleep(30)", wall_seconds=0.2)
        assert (call.status, call.detail) == (Status.TIMEOUT, "more than 0.2 s of clock time")


def test_processor_time_counts_for_all_calls_together(sandbox: Sandbox) -> None:
    with sandbox.session(Limits(cpu_seconds=1, wall_seconds=60.0)) as session:
        spend = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
        said(session, spend)
        call = session.run(spend)
        assert (call.status, call.ended) == (Status.TIMEOUT, True)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os\nos._exit(3)", Status.ERROR),
        ("print('x' * 3_000_000)", Status.OUTPUT),
        ("import ctypes\nctypes.string_at(0)", Status.ERROR),
        ("import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)", Status.POLICY),
    ],
)
def test_a_process_that_ends_says_why(sandbox: Sandbox, code: str, status: Status) -> None:
    with sandbox.session(PATIENT) as session:
        call = session.run(code)
        assert (call.status, call.ended) == (status, True)
        assert call.detail
    with sandbox.session(PATIENT) as session:
        assert said(session, "6 * 7") == "42\n"


def test_the_process_is_paused_between_calls(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        counting = "import threading\nn = 0\ndef work():\n    global n\n    while True: n += 1\n"
        said(session, counting + "threading.Thread(target=work, daemon=True).start()")
        pid = int(said(session, "import os\nos.getpid()"))
        until = time.monotonic() + 30
        while _state(pid) != "T":
            assert time.monotonic() < until
        used = _cpu(pid)
        time.sleep(0.2)
        assert _cpu(pid) == used
        assert said(session, "n > 0") == "True\n"
    assert not os.path.exists(f"/proc/{pid}")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def _cpu(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]


def test_a_process_cannot_wake_itself(sandbox: Sandbox) -> None:
    """A thread that sends SIGCONT without end undoes a SIGSTOP that has not yet arrived at all threads."""
    with sandbox.session(PATIENT) as session:
        call = session.run(f"import os\nos.kill(os.getpid(), {int(signal.SIGCONT)})")
        assert call.detail == "PermissionError"


def test_a_flood_of_reports_does_not_keep_the_caller(sandbox: Sandbox) -> None:
    """The pipe of reports never ran dry, and the clock was not looked at."""
    with sandbox.session(QUICK) as session:
        call = session.run("import os\nwhile True: os.write(3, b'x' * 65536)")
        assert (call.status, call.ended) == (Status.OUTPUT, True)


def test_sessions_are_apart_and_a_server_is_used_again(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as one, sandbox.session(PATIENT) as other:
        said(one, "x = 1\nopen('note', 'w').close()")
        assert other.run("x").detail == "NameError"
        assert said(other, "import os\nos.listdir('.')") == "[]\n"
        assert said(other, "os.getcwd()") != said(one, "import os\nos.getcwd()")
    with sandbox.session(PATIENT) as again:
        assert again.run("x").detail == "NameError"
        assert said(again, "import os\nos.listdir('.')") == "[]\n"
    assert sandbox.run("print(1)").stdout == "1\n"


def test_code_that_is_too_long_is_refused(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        assert said(session, "#" * MOST_CODE) == ""
        with pytest.raises(ValueError, match="too long"):
            session.run("#" * (MOST_CODE + 1))


def test_equal_calls_give_equal_answers(sandbox: Sandbox) -> None:
    code = "import random\nprint({str(i) for i in range(9)}, random.random(), hash('a'), object())"
    found = set()
    for _ in range(3):
        with sandbox.session(PATIENT) as session:
            found.add(said(session, code).partition("<object")[0])
    assert len(found) == 1


def test_a_server_that_dies_ends_its_session_and_no_other(sandbox: Sandbox) -> None:
    with sandbox.session(PATIENT) as session:
        pid, parent = map(int, said(session, "import os\nprint(os.getpid(), os.getppid())").split())
        os.kill(parent, signal.SIGKILL)
        until = time.monotonic() + 30
        while _state(pid) not in ("Z", "gone"):
            assert time.monotonic() < until
        call = session.run("1")
        assert (call.status, call.ended) == (Status.UNAVAILABLE, True)
    with sandbox.session(PATIENT) as session:
        assert said(session, "6 * 7") == "42\n"


def test_a_server_that_does_not_start_does_not_take_a_worker_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run would have waited for it without end."""
    with Sandbox(workers=1) as sandbox:
        idle = sandbox._idle.get_nowait()
        assert idle is not None
        idle.close()
        sandbox._idle.put(None)
        with monkeypatch.context() as patched:
            patched.setattr("thinkling.sandbox.sandbox.ForkServer", _fails)
            with pytest.raises(SandboxUnavailable), sandbox.session(PATIENT):
                pass
        assert sandbox._idle.qsize() == 1
        assert sandbox.run("print(1)").stdout == "1\n"


def _fails(*given: object) -> None:
    raise SandboxUnavailable("no memory")
