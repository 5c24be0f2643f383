import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.listen import Listener
from thinkling.sandbox.outcome import SandboxUnavailable, Status
from thinkling.sandbox.sandbox import Sandbox


def test_runs_a_program_as_python_would(sandbox: Sandbox) -> None:
    code = """
        import sys
        if __name__ == "__main__":
            print(sys.stdin.readline().strip()[::-1], input(), sys.argv)
            print("seen", file=sys.stderr)
            sys.exit(3)
    """
    outcome = sandbox.run(textwrap.dedent(code), stdin="früh\nspät\n")
    assert outcome.stdout == "hürf spät ['<program>']\n"
    assert outcome.stderr == "seen\n"
    assert (outcome.status, outcome.exit_code, outcome.error) == (Status.ERROR, 3, "SystemExit")


def test_an_exception_shows_the_programs_own_lines(sandbox: Sandbox) -> None:
    outcome = sandbox.run("def f(x):\n    return 1 / x\n\nf(0)\n")
    assert (outcome.status, outcome.error, outcome.exit_code) == (Status.ERROR, "ZeroDivisionError", 1)
    assert "return 1 / x" in outcome.stderr
    assert "child.py" not in outcome.stderr


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("def", Status.ERROR, "SyntaxError"),
        ("print('\\0')", Status.OK, ""),
        ("raise SystemExit", Status.OK, "SystemExit"),
        ("raise SystemExit('why')", Status.ERROR, "SystemExit"),
        ("import os; os._exit(0)", Status.OK, ""),
        ("raise KeyboardInterrupt", Status.ERROR, "KeyboardInterrupt"),
        ("import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", Status.ERROR, None),
        ("print('\\ud800')", Status.OK, ""),
        ("(" * 5000, Status.ERROR, None),
        ("x = 0\0", Status.ERROR, None),
    ],
)
def test_statuses_of_programs(sandbox: Sandbox, code: str, status: Status, error: str | None) -> None:
    outcome = sandbox.run(code, limits=Limits(cpu_seconds=10, wall_seconds=60.0, memory_bytes=2**27))
    if error is None:  # an endless recursion ends by memory or by a crash, whichever comes first
        assert outcome.status in (Status.ERROR, Status.MEMORY)
    else:
        assert (outcome.status, outcome.error) == (status, error)


def test_limits_end_a_program(sandbox: Sandbox) -> None:
    few = Limits(cpu_seconds=1, wall_seconds=30.0, output_bytes=1000, disk_bytes=2**20, threads=4)
    crowd = "import threading, time\nfor _ in range(9):\n threading.Thread(None, time.sleep, None, (5,)).start()"
    cases = {
        crowd: Status.POLICY,
        "while True: pass": Status.TIMEOUT,
        "bytearray(1 << 30)": Status.MEMORY,
        "print('x' * 1000)": Status.OUTPUT,
        "print('x' * 10**7)": Status.OUTPUT,
        "open('a', 'wb').write(bytes(1 << 21))": Status.OUTPUT,
        "print('x' * 999)": Status.OK,
    }
    for code, status in cases.items():
        assert sandbox.run(code, limits=few).status is status, code
    asleep = sandbox.run("import time; time.sleep(100)", limits=Limits(wall_seconds=0.3))
    assert asleep.status is Status.TIMEOUT
    assert asleep.cpu_seconds < 0.3 <= asleep.seconds < 20


def test_no_descriptor_stays_open(sandbox: Sandbox) -> None:
    sandbox.run("print(1)")
    before = sorted(os.listdir("/proc/self/fd"))
    for code in ("print(1)", "while True: print(1)", "import time; time.sleep(9)", "1 / 0"):
        sandbox.run(code, limits=Limits(wall_seconds=0.2, output_bytes=100))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_mapped_files_are_counted_and_allowed(sandbox: Sandbox) -> None:
    """By their size, since Python's own mappings keep a descriptor."""
    code = """
import mmap, tempfile, time
held = []
for _ in range(COUNT):
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 19)
        held.append(mmap.mmap(file.fileno(), 1 << 19))
time.sleep(0.2)
"""
    limits = Limits(disk_bytes=1 << 20, wall_seconds=30.0)
    for count, status in ((2, Status.OK), (3, Status.OUTPUT)):
        assert sandbox.run(code.replace("COUNT", str(count)), limits=limits).status is status
    nameless = "import mmap, time; held = mmap.mmap(-1, 1 << 21); time.sleep(0.2)"
    assert sandbox.run(nameless, limits=limits).status is Status.OK


def test_a_capped_output_keeps_its_beginning(sandbox: Sandbox) -> None:
    outcome = sandbox.run("print('a' * 50, flush=True)\nprint('b' * 10**6)", limits=Limits(output_bytes=100))
    assert outcome.stdout == "a" * 50 + "\n" + "b" * 49


def test_files_come_in_and_do_not_stay(sandbox: Sandbox) -> None:
    code = "import os; print(sorted(os.listdir()), open('data', 'rb').read()); open('mine', 'w').write('x')"
    first = sandbox.run(code, files={"data": b"\x00\xff", "-rf": b""})
    assert first.stdout == "['-rf', 'data'] b'\\x00\\xff'\n"
    assert sandbox.run("import os; print(os.listdir())").stdout == "[]\n"


def test_files_have_a_limit_too(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="raise disk_bytes"):
        sandbox.run("", files={"a": bytes(6), "b": bytes(6)}, limits=Limits(disk_bytes=10))
    assert sandbox.run("", files={"a": bytes(5), "b": bytes(5)}, limits=Limits(disk_bytes=10)).status is Status.OK


def test_large_inputs_and_outputs_go_through(sandbox: Sandbox) -> None:
    code = "import sys; text = sys.stdin.read(); print(len(text)); sys.stderr.write(text)"
    outcome = sandbox.run(code + "#" * 10**6, stdin="é" * 3 * 10**6, limits=Limits(output_bytes=10**7))
    assert outcome.stdout == "3000000\n"
    assert outcome.stderr == "é" * 3 * 10**6


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_a_file_is_a_plain_name(name: str) -> None:
    with pytest.raises(UserError, match="plain file name"):
        Job("", files={name: b""})


def test_equal_programs_give_equal_output(sandbox: Sandbox) -> None:
    code = "import random; print(random.random(), list({'a', 'b', 'c', 'd'}), hash('x'))"
    with Sandbox(sandbox.limits) as other:
        assert sandbox.run(code).stdout == sandbox.run(code).stdout == other.run(code).stdout


def test_honest_programs_find_what_they_need(sandbox: Sandbox) -> None:
    code = """
        import asyncio, concurrent.futures, ctypes, hashlib, queue, resource, sqlite3, ssl, subprocess, tempfile
        import threading, bz2, lzma, zlib, uuid, decimal, unittest.mock, xml.etree.ElementTree, tomllib, zoneinfo
        import multiprocessing
        async def double(x):
            await asyncio.sleep(0.001)
            return 2 * x
        async def main():
            return await asyncio.gather(*map(double, range(3)))
        print(asyncio.run(main()))
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            print(list(pool.map(str, range(3))))
        with tempfile.TemporaryFile() as file:
            file.write(b"1")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"1")
        print(sqlite3.connect(":memory:").execute("select 1 + 1").fetchone(), hashlib.sha256(b"").hexdigest()[:4])
        print("ü".encode("cp437"), open("/dev/null").read() == "")
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 24, resource.RLIM_INFINITY))
        threading.Timer(0.01, print, ["late"]).start()
    """
    outcome = sandbox.run(textwrap.dedent(code))
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == ["[0, 2, 4]", "['0', '1', '2']", "(2,) e3b0", "b'\\x81' True", "late"]


def test_what_was_installed_cannot_be_read(sandbox: Sandbox) -> None:
    path = pytest.__file__
    outcome = sandbox.run(f"try:\n    open({path!r})\nexcept OSError as error:\n    print(error.errno)\nimport pytest")
    assert outcome.stdout == "13\n"
    assert outcome.error == "ModuleNotFoundError"
    assert sandbox.run("import thinkling").error == "ModuleNotFoundError"


@pytest.mark.usefixtures("sandbox")
def test_many_runs_keep_their_order() -> None:
    with Sandbox(workers=3) as sandbox:
        outcomes = sandbox.run_many([Job(f"import time; time.sleep({i % 3} / 50); print({i})") for i in range(12)])
    assert [outcome.stdout for outcome in outcomes] == [f"{i}\n" for i in range(12)]


def _servers() -> set[int]:
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for child in children for pid in child.read_text().split()}


@pytest.mark.usefixtures("sandbox")
def test_a_killed_server_is_started_again() -> None:
    before = _servers()
    with Sandbox() as sandbox:
        (server,) = _servers() - before
        os.kill(server, signal.SIGKILL)
        assert sandbox.run("print(1)").stdout == "1\n"
        assert _servers() - before - {server}
    assert _servers() <= before


@pytest.mark.usefixtures("sandbox")
def test_a_server_that_dies_under_a_program_costs_no_score() -> None:
    """A program cannot reach its server. If the machine kills it twice, the outcome is nobody's fault."""
    code = "import time; print('begun', flush=True); time.sleep(30)"
    before = _servers()
    with Sandbox() as sandbox:
        killer = subprocess.Popen(
            [sys.executable, "-c", _KILLER, str(os.getpid()), *map(str, sorted(before))], start_new_session=True
        )
        outcome = sandbox.run(code, limits=Limits(wall_seconds=60.0))
        killer.kill()
        killer.wait()
        assert outcome.status is Status.UNAVAILABLE
        assert sandbox.run("print(1)").stdout == "1\n"


# Kills two servers of a process, each once it has a child that sleeps.
_KILLER = """
import os, signal, sys, time
from pathlib import Path
parent, spared, killed = sys.argv[1], {int(one) for one in sys.argv[2:]} | {os.getpid()}, 0
def children(pid):
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]
while killed < 2:
    for server in set(children(parent)) - spared:
        if any(b"hrtimer_nanosleep" in Path(f"/proc/{one}/wchan").read_bytes() for one in children(server)):
            os.kill(server, signal.SIGKILL)
            spared.add(server)
            killed += 1
    time.sleep(0.05)
"""


@pytest.mark.usefixtures("sandbox")
def test_servers_are_recycled() -> None:
    before = _servers()
    with Sandbox(recycle=5) as sandbox:
        seen = set()
        for _ in range(12):
            assert sandbox.run("print(1)").stdout == "1\n"
            seen |= _servers() - before
    assert len(seen) >= 3


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that root's children can enter; pytest's own is private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.usefixtures("sandbox")
def test_nothing_is_left_behind(open_folder: Path) -> None:
    """Neither when the sandbox is closed, nor when its process ends or is killed."""
    script = (
        "import os, signal, sys; from thinkling.sandbox.sandbox import Sandbox; s = Sandbox(); s.run('print(1)');"
        "print(1, flush=True); os.kill(os.getpid(), int(sys.argv[1])) if sys.argv[1] != '0' else None"
    )
    for number in ("0", "9"):
        environment = {**os.environ, "TMPDIR": os.fspath(open_folder)}
        run = subprocess.run([sys.executable, "-c", script, number], env=environment, capture_output=True)
        assert run.stdout == b"1\n", run.stderr
        deadline = time.monotonic() + 20
        while list(open_folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(open_folder.iterdir()) == []


def test_a_forked_process_has_servers_of_its_own(sandbox: Sandbox) -> None:
    assert sandbox.run("print(1)").stdout == "1\n"
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, sandbox.run("print(2)").stdout.encode())
        sandbox.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"2\n"
    assert sandbox.run("print(3)").stdout == "3\n"


def test_bad_settings_are_named() -> None:
    with pytest.raises(UserError, match="workers is 0"):
        Sandbox(workers=0)
    with pytest.raises(UserError, match="cpu_seconds is 0"):
        Limits(cpu_seconds=0)
    with pytest.raises(UserError, match="memory_bytes is 1000"):
        Limits(memory_bytes=1000)


@pytest.mark.usefixtures("sandbox")
def test_bubblewrap_is_a_wall_more() -> None:
    if shutil.which("bwrap") is None:
        with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
            Sandbox(level="bubblewrap")
        return
    try:
        sandbox = Sandbox(level="bubblewrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))  # no user namespaces
    with sandbox:
        outcome = sandbox.run(
            "import os, wsgiref; print(os.getpid() < 1000, os.path.exists('/etc/passwd'), os.getuid())"
        )
        assert outcome.stdout == "True False 65534\n"
        assert sandbox.run("import os; os.fork()").error == "PermissionError"
        assert sandbox.run("import socket; socket.socket()").error == "PermissionError"


@pytest.mark.usefixtures("sandbox")
def test_an_interrupted_run_leaves_no_reply_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C between request and reply: the next run must not read the reply of the last one."""
    with Sandbox() as sandbox:

        def interrupt(listener: Listener) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Listener, "until_reply", interrupt)
            with pytest.raises(KeyboardInterrupt):
                sandbox.run("print('old')")
        assert sandbox.run("print('new')").stdout == "new\n"


def test_root_of_a_namespace_that_knows_nobody_else() -> None:
    """A rootless container: there is no user to become, and the child is confined all the same."""
    program = (
        "from thinkling.sandbox.sandbox import Sandbox\n"
        "sandbox = Sandbox()\n"
        "outcome = sandbox.run('import os; print(os.getuid()); open(\"/etc/passwd\")')\n"
        "print(outcome.stdout.strip(), outcome.error)\n"
        "sandbox.close()\n"
    )
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-r", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run([unshare, "-r", sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "PermissionError"]
