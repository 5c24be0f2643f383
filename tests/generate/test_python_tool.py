"""The `python` tool: what the model sees, its bounds, one process per sample."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thinkling.generate import python_tool
from thinkling.generate.python_tool import CALL_SECONDS, MOST_CALLS, OUTPUT_CHARACTERS, PythonSession, PythonTool
from thinkling.generate.tools import PYTHON, resolve
from thinkling.generate.turns import MOST_WITH_SESSIONS
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import SandboxUnavailable, Status
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.session import MOST_CODE, Call

PATIENT = Limits(cpu_seconds=60, wall_seconds=60.0)
QUICK = Limits(cpu_seconds=5, wall_seconds=0.5)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        opened = Sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.fixture
def opened(sandbox: Sandbox) -> Iterator[Callable[..., PythonSession]]:
    """Opens sessions, and closes them."""
    sessions = []

    def open_session(limits: Limits = PATIENT, total: float = 600.0) -> PythonSession:
        sessions.append(PythonTool(limits, total, sandbox).open())
        return sessions[-1]

    yield open_session
    for session in sessions:
        session.close()


def test_it_is_a_built_in_tool() -> None:
    assert resolve("python") is PYTHON
    assert PYTHON.needs_sandbox
    assert PYTHON.listing()["function"]["parameters"]["required"] == ["code"]
    assert python_tool.LIMITS.wall_seconds == CALL_SECONDS


def test_what_the_model_sees(opened: Callable[..., PythonSession]) -> None:
    session = opened()
    assert session.run({"code": "x = 6\nprint('six')\nx * 7"}) == "six\n42"
    assert session.run({"code": "y = x"}) == "(no output)"
    output, first, *_, last = session.run({"code": "print(x)\n1 / 0"}).split("\n")
    assert (output, first) == ("6", "error: Traceback (most recent call last):")
    assert last == "ZeroDivisionError: division by zero"
    deep = session.run({"code": "def f(n):\n    return f(n - 1) if n else 1 / 0\nf(50)"})
    assert deep.startswith("error: ")
    assert deep.count("\n") < python_tool.ERROR_LINES
    assert deep.endswith("ZeroDivisionError: division by zero")
    assert session.run({"code": "raise SystemExit('enough')"}).endswith("SystemExit: enough")
    assert session.run({"code": "x"}) == "6"


@pytest.mark.parametrize("arguments", [{}, {"code": 1}, {"source": "1"}, {"code": "1", "language": "python"}])
def test_bad_arguments_are_answered(opened: Callable[..., PythonSession], arguments: dict) -> None:
    assert opened().run(arguments) == "error: python takes one argument, code, a string"


def test_output_is_cut_in_the_middle(opened: Callable[..., PythonSession]) -> None:
    found = opened().run({"code": "print('a' * 3000 + 'b' * 3000)"})
    assert found.startswith("a" * 2000 + "\n[… 2000 characters left out …]\n")
    assert found.endswith("b" * 2000)
    assert len(found) < OUTPUT_CHARACTERS + 50
    assert "left out" in opened().run({"code": "list(range(10**6))"})  # longer than what a process may print


def test_a_process_that_ends_takes_its_variables_with_it(opened: Callable[..., PythonSession]) -> None:
    session = opened(QUICK)
    session.run({"code": "x = 1"})
    answer = session.run({"code": "print('so far', flush=True)\nwhile True: pass"})
    ended = "the process was ended, and its variables are lost"
    assert answer == f"so far\nerror: more than 0.5 s of clock time; {ended}"
    assert session.run({"code": "x"}).endswith("NameError: name 'x' is not defined")
    assert session.run({"code": "6 * 7"}) == "42"
    assert session.run({"code": "import os\nos._exit(0)"}).endswith(f"by itself with status 0; {ended}")


def test_calls_are_counted(opened: Callable[..., PythonSession], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tool, "MOST_CALLS", 2)
    session = opened()
    found = [session.run({"code": "1"}) for _ in range(3)]
    assert found == ["1", "1", "error: more than 2 calls"]
    assert MOST_CALLS == 32


def test_the_time_of_all_calls_together_is_bounded(opened: Callable[..., PythonSession]) -> None:
    session = opened(Limits(cpu_seconds=60, wall_seconds=60.0), 0.5)
    answer = session.run({"code": "import time\ntime.sleep(30)"})
    assert answer.startswith("error: the calls together took more than 0.5 s; the process was ended")
    assert session.run({"code": "1"}) == "error: the calls together took more than 0.5 s"


def test_code_that_is_too_long_is_answered(opened: Callable[..., PythonSession]) -> None:
    assert opened().run({"code": "#" * (MOST_CODE + 1)}) == f"error: the code is longer than {MOST_CODE} bytes"


def test_samples_do_not_share_anything(opened: Callable[..., PythonSession]) -> None:
    one, other = opened(), opened()
    one.run({"code": "x = 1\nopen('note', 'w').close()"})
    assert "NameError" in other.run({"code": "x"})
    assert other.run({"code": "import os\nos.listdir('.')"}) == "[]"


def test_a_process_that_the_machine_killed_is_no_exception() -> None:
    killed = Call(Status.UNAVAILABLE, "a\n", "", "killed from outside", 0.1, ended=True)
    assert python_tool.answer(killed).startswith("a\nerror: killed from outside; the process was ended")


def test_a_machine_without_a_sandbox_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never an answer that a model would learn from."""

    def missing(*_: object) -> Sandbox:
        raise SandboxUnavailable("sandbox: no Landlock")

    monkeypatch.setattr(python_tool, "Sandbox", missing)
    with pytest.raises(SandboxUnavailable, match="no Landlock"):
        PythonTool().open().run({"code": "1"})


def test_the_page_names_the_bounds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
    for bound in (
        f"calls per sample | {MOST_CALLS} |",
        f"wall-clock time of a call | {CALL_SECONDS:g} s |",
        f"CPU time of its process | {python_tool.TOTAL_SECONDS} s each |",
        f"memory | {python_tool.MEMORY_BYTES >> 20} MiB",
        f"files | {python_tool.LIMITS.disk_bytes >> 20} MiB",
        f"code of a call | {MOST_CODE:,} bytes |",
        f"answer | {OUTPUT_CHARACTERS:,} characters |",
        f"output of a call | {python_tool.LIMITS.output_bytes >> 20} MiB |",
        f"last {python_tool.ERROR_LINES} lines of the traceback",
        f"{MOST_WITH_SESSIONS} samples",
    ):
        assert bound in page, bound
