"""Attacks on the sandbox, and how success of an attack is detected from outside.

An attack is a Python program in tests/sandbox/attacks. Its first comment describes it, `# kind:` sets how success is
detected, and `# control:` who can do it outside the sandbox (default: anyone). An attack of kind

- `effect` (the default) succeeds if it prints BREACH or the secret, or if something outside has changed;
- `twice` is run twice and succeeds if the second run prints BREACH;
- `endless` succeeds if it keeps running past its limits; `flood` if it outputs more than allowed;
- `unjudged` succeeds if its outcome is not scored;
- `verdict` succeeds if a program that solves nothing passes the test or is not judged.

Only harmless actions are tried: nothing leaves the loopback, and nothing outside the arena's own folder is changed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import Outcome, Status
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite

ATTACKS = Path(__file__).resolve().parents[2] / "tests" / "sandbox" / "attacks"
LIMITS = Limits(cpu_seconds=2, wall_seconds=3.0)
ENDLESS_SECONDS, CONTROL_SECONDS = 1.5, 20.0
"""Time limits outside the sandbox, for `endless` programs (success if still running) and for all others."""
Kind = Literal["effect", "twice", "endless", "flood", "unjudged", "verdict"]
Who = Literal["anyone", "root", "none"]


@dataclass(frozen=True)
class Attack:
    """One program, with placeholders such as @SECRET_FILE@ for the arena's targets."""

    name: str
    code: str
    kind: Kind
    control: Who

    @classmethod
    def read(cls, path: Path) -> Attack:
        """Reads a program and its header. ValueError if kind or control is unknown."""
        code = path.read_text()
        fields = dict(re.findall(r"^# (kind|control): (\w+)", code, re.MULTILINE))
        kind, control = fields.get("kind", "effect"), fields.get("control", "anyone")
        if kind not in Kind.__args__ or control not in Who.__args__:
            raise ValueError(f"{path.name}: kind {kind!r}, control {control!r}")
        if "on x86_64" in code and os.uname().machine != "x86_64":
            control = "none"
        return cls(path.stem, code, kind, control)


def all_attacks() -> list[Attack]:
    """All attacks, sorted by name."""
    return [Attack.read(path) for path in sorted(ATTACKS.glob("*.py"))]


# Holds the secret in memory, in its environment and in an open file, and prints where. It switches users only after
# it has started, since root's Python may be inaccessible to others; PR_SET_DUMPABLE makes it a normal process again.
_VICTIM = """
import ctypes, os, sys, time
user = int(sys.argv[2])
if os.getuid() != user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
secret = os.environ["ARENA_SECRET"].encode()
held = ctypes.create_string_buffer(secret)
file = open(sys.argv[1])
print(ctypes.addressof(held), file.fileno(), flush=True)
time.sleep(3600)
"""
_NAIVE_HARNESS = """
def judge(program, test):
    namespace = {}
    exec(program, namespace)
    exec(test, namespace)
    print(PASSED)
judge(PROGRAM, TEST)
"""


def child_user() -> int:
    """User id of the sandbox's children: nobody if this process is root and can switch to it, else its own user."""
    with open("/proc/self/uid_map") as table:
        mapped = sum(int(line.split()[2]) for line in table)
    return 65534 if os.getuid() == 0 and mapped > 65534 else os.getuid()


class Arena:
    """Targets: files, servers and a process that belong to the user of the sandbox's children."""

    def __init__(self, user: int) -> None:
        """`user` owns the targets."""
        self.user = user
        self.folder = Path(tempfile.mkdtemp(prefix="arena-"))
        self.folder.chmod(0o755)
        self.secret = os.environ.get("ARENA_SECRET") or secrets.token_hex(16)
        self.public = self._folder("public", 0o777)
        self.secret_file = self.folder / f"secret-{self.secret}"
        self.secret_file.write_text(self.secret)
        (self.public / self.secret).write_text("")
        self.victim_file = self.folder / "own" / "file"
        self._folder("own", 0o777)
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(os.fspath(self.folder / "unix"))
        self._abstract = socket.socket(socket.AF_UNIX)
        self._abstract.bind("\0arena-" + self.secret[:8])
        self._datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._datagram.bind(os.fspath(self.folder / "datagram"))
        for one in (self._unix, self._abstract):
            one.listen()
        for one in self._sockets:
            one.setblocking(False)
        for name in ("unix", "datagram"):
            (self.folder / name).chmod(0o777)
        # Leaks of a careless harness: an environment variable, and a descriptor that children inherit.
        os.environ["ARENA_SECRET"] = self.secret
        self._leak = os.open(self.secret_file, os.O_RDONLY)
        os.set_inheritable(self._leak, True)
        self._victim: subprocess.Popen[str] | None = None
        self.reset()

    @property
    def _sockets(self) -> tuple[socket.socket, ...]:
        return self._tcp, self._udp, self._unix, self._abstract, self._datagram

    def _folder(self, name: str, mode: int) -> Path:
        path = self.folder / name
        path.mkdir()
        path.chmod(mode)
        return path

    def reset(self) -> None:
        """Restores the initial state."""
        for path in (*self.public.iterdir(), *self.victim_file.parent.iterdir()):
            if path.name != self.secret:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.victim_file.write_text(self.secret)
        self.victim_file.chmod(0o600)
        if os.getuid() != self.user:
            os.chown(self.victim_file, self.user, -1)
        for one in self._sockets:
            while True:
                try:
                    one.accept()[0].close() if one.type == socket.SOCK_STREAM else one.recv(100)
                except BlockingIOError:
                    break
        self._kill_victim()
        self._victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _VICTIM, os.fspath(self.secret_file), str(self.user)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._victim.stdout is not None
        address, descriptor = self._victim.stdout.readline().split()
        self._names = {
            "SECRET_FILE": self.secret_file,
            "PUBLIC": self.public,
            "VICTIM_FILE": self.victim_file,
            "VICTIM": self._victim.pid,
            "ADDRESS": address,
            "VICTIM_DESCRIPTOR": descriptor,
            "TCP": self._tcp.getsockname()[1],
            "UDP": self._udp.getsockname()[1],
            "UNIX": self.folder / "unix",
            "UNIX_DATAGRAM": self.folder / "datagram",
            "ABSTRACT": "arena-" + self.secret[:8],
            "PASSED": "PASSED-" + self.secret[:8],
        }
        self._state = list(self._things())

    def _things(self) -> Iterator[tuple[str, object]]:
        assert self._victim is not None
        yield "public folder", sorted(path.name for path in self.public.iterdir())
        yield "own folder", sorted(path.name for path in self.victim_file.parent.iterdir())
        if self.victim_file.exists():
            found = self.victim_file.stat()
            yield "file", (found.st_mode, found.st_size, found.st_mtime_ns, found.st_nlink)
            yield "attributes", os.listxattr(self.victim_file)
        yield "process", self._victim.poll()
        if self._victim.poll() is None:
            yield "priority", os.getpriority(os.PRIO_PROCESS, self._victim.pid)
            yield "limits", Path(f"/proc/{self._victim.pid}/limits").read_text()
        for name, one in zip(("tcp", "udp", "unix", "abstract", "datagram"), self._sockets, strict=True):
            try:
                got = one.accept()[0].fileno() if one.type == socket.SOCK_STREAM else len(one.recv(100))
            except BlockingIOError:
                got = None
            yield name, got

    def changes(self) -> list[str]:
        """Names of the targets that have changed, after allowing time for a signal or a message to arrive."""
        time.sleep(0.02)
        now = list(self._things())
        return [name for (name, _), (_, _) in zip(now, now, strict=True) if (name, dict(now)[name]) not in self._state]

    def fill_in(self, code: str) -> str:
        """The program with its placeholders filled in."""
        return re.sub(r"@([A-Z_]+)@", lambda match: str(self._names[match[1]]), code)

    def _kill_victim(self) -> None:
        if self._victim is not None:
            self._victim.kill()
            self._victim.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_victim()
        for one in self._sockets:
            one.close()
        os.close(self._leak)
        del os.environ["ARENA_SECRET"]
        shutil.rmtree(self.folder)

    def breached(self, output: str) -> bool:
        """Whether an attack of kind `effect` succeeded."""
        return "BREACH" in output or self.secret in output or bool(self.changes())

    def attack(self, attack: Attack, sandbox: Sandbox, limits: Limits = LIMITS) -> tuple[bool, Outcome]:
        """Runs an attack inside; returns whether it succeeded, and the (last) outcome."""
        code = self.fill_in(attack.code)
        if attack.kind == "verdict":
            suite = Suite.read([f"assert target(7) == {1000 + secrets.randbelow(10**9)}"])
            outcome = sandbox.run_job(suite.job(code, limits))
            return suite.passed(outcome) or outcome.status is Status.UNAVAILABLE, outcome
        outcome = sandbox.run(code, limits=limits)
        if attack.kind == "twice":
            outcome = sandbox.run(code, limits=limits)
        succeeded = {
            "endless": outcome.status is Status.OK or outcome.seconds > limits.wall_seconds + 1,
            "flood": len(outcome.stdout + outcome.stderr) > 2 * limits.output_bytes,
        }.get(attack.kind, False)
        return succeeded or outcome.status is Status.UNAVAILABLE or self.breached(outcome.stdout), outcome

    def control(self, attack: Attack) -> bool:
        """Runs an attack outside as this user; returns whether it succeeded."""
        code = self.fill_in(attack.code)
        if attack.kind == "verdict":
            names = {"PASSED": self._names["PASSED"], "PROGRAM": code, "TEST": "assert target(7) == 123456789"}
            code = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + _NAIVE_HARNESS
        seconds = ENDLESS_SECONDS if attack.kind == "endless" else CONTROL_SECONDS
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for _ in range(1 + (attack.kind == "twice")):
                with subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    close_fds=False,
                    start_new_session=True,
                ) as process:
                    output, ended = _read_for_a_while(process, seconds, 2 * LIMITS.output_bytes)
        return {
            "endless": not ended,
            "flood": len(output) > 2 * LIMITS.output_bytes,
            "unjudged": process.returncode < 0,
            "verdict": str(self._names["PASSED"]) in output,
        }.get(attack.kind, False) or (attack.kind in ("effect", "twice") and self.breached(output))


def _read_for_a_while(process: subprocess.Popen[bytes], seconds: float, most: int) -> tuple[str, bool]:
    """Output of a process, and whether it ended by itself; if not, it is killed."""
    assert process.stdout is not None
    output, deadline = b"", time.monotonic() + seconds
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < deadline and len(output) <= most:
        ended = process.poll() is not None
        output += process.stdout.read() or b""
        if ended:
            return output.decode("utf-8", "replace"), True
        time.sleep(0.005)
    process.kill()
    return output.decode("utf-8", "replace"), False


def main() -> None:
    """Runs all attacks as the current user and prints a JSON object: name → [inside, outside, status]."""
    if "ARENA_SECRET" not in os.environ:  # the kernel shows a process's environment as of its start
        os.environ["ARENA_SECRET"] = secrets.token_hex(16)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.security.sandbox_arena"])
    user = child_user()
    found = {}
    with Arena(user) as arena, Sandbox(LIMITS) as sandbox:
        for attack in all_attacks():
            may = attack.control == "anyone" or (attack.control == "root" and os.getuid() == 0)
            outside = arena.control(attack) if may else None
            arena.reset()
            inside, outcome = arena.attack(attack, sandbox)
            arena.reset()
            found[attack.name] = (inside, outside, f"{outcome.status} {outcome.detail}"[:120])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
