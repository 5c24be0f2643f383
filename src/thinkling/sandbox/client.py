"""The sandbox's handle on one fork-server: it starts, uses, kills and restarts the server."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Literal

from thinkling.sandbox import packages, protocol
from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.listen import Listener
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable, judge, read_reply, unavailable
from thinkling.sandbox.session import Session

Level = Literal["strict", "bubblewrap"]
START_SECONDS = 60.0
_SOURCE = Path(__file__).resolve().parents[2]
# Keeps programs from importing thinkling or the packages installed next to it.
_BOOT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from thinkling.sandbox.server import main
sys.path.pop(0)
for name in [name for name in sys.modules if name.partition(".")[0] == "thinkling"]:
    del sys.modules[name]
main()
"""
# Together with _ENVIRONMENT, these flags are equivalent to -I, except that the hash seed is fixed, so that the
# iteration order of sets, and therefore a program's output, is the same on every server.
_FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}


class ForkServer:
    """A running fork-server. Not safe to share between threads or across a fork; sandbox.py uses a server for one run
    at a time."""

    def __init__(self, level: Level, recycle: int, names: Collection[str] = ()) -> None:
        """Start the server with the packages `names`. Raises SandboxUnavailable if the machine lacks a feature or the
        server does not start, and UserError if a package is unknown or not installed."""
        self._level, self._recycle, self._packages = level, recycle, names
        self._start()

    def run(self, job: Job, limits: Limits) -> Outcome:
        """Perform one run. If the server dies, it is restarted for a second attempt. If it dies again, the outcome is
        `unavailable`."""
        self._refresh()
        for _ in range(2):
            try:
                self._asked = True
                outcome = self._exchange(job, limits)
                self._asked = False
            except (OSError, protocol.Closed) as error:
                reason = str(error) or "it closed its channel"
                log = self._last_words()
                self.close()
                self._start()
            else:
                self._runs += 1
                return outcome
        return unavailable(f"the fork-server died twice ({reason}) {log}", len(job.tests.tests) if job.tests else 0)

    def open_session(self, limits: Limits) -> Session:
        """Start a process that runs pieces of code one after another. The session has exclusive use of the server until
        it is closed. Raises OSError or protocol.Closed if the server has died. The server is then restarted before its
        next use."""
        self._refresh()
        self._asked = True
        nonce = secrets.token_hex(16)
        read, write = os.pipe()
        try:
            reads = self._send([protocol.Program("", nonce, {}, "session")], read, limits)
        except BaseException:
            os.close(write)
            raise
        return Session(self._channel, write, reads, nonce, limits, self._session_ended)

    def _session_ended(self) -> None:
        self._asked = False
        self._runs += 1

    def _refresh(self) -> None:
        if self._asked or self._runs >= self._recycle:  # a request is unanswered if the caller was interrupted
            self.close()
            self._start()

    def _exchange(self, job: Job, limits: Limits) -> Outcome:
        nonce = secrets.token_hex(16)
        programs = [protocol.Program(job.code, nonce, job.files, "judged" if job.tests else "main")]
        if job.tests:  # a separate nonce, because the program can find its own nonce in memory
            nonce = secrets.token_hex(16)
            programs.append(protocol.Program(json.dumps(asdict(job.tests)), nonce, {}, "tester"))
        reads = self._send(programs, _stdin(job.stdin), limits)
        try:
            listener = Listener(self._channel, reads, limits)
            reply = listener.until_reply()
        finally:
            for descriptor in reads:
                os.close(descriptor)
        found = read_reply(reply, listener.stopped)
        nonces = [program.nonce for program in programs]
        return judge(found, listener.streams, nonces, len(job.tests.tests) if job.tests else 0, limits)

    def _send(self, programs: Sequence[protocol.Program], stdin: int, limits: Limits) -> list[int]:
        """Request a run and return this side's ends of the pipes: stdout, stderr, reports, and the tester's reports.
        Takes ownership of `stdin`. `programs`: the program and, if there is one, its tester."""
        given, reads = [stdin], []
        try:
            for _ in range(3):
                read, write = os.pipe()
                reads.append(read)
                given.append(write)
            given.append(protocol.write_program(programs[0]))
            for tester in programs[1:]:
                given += [end.detach() for end in socket.socketpair()]
                read, write = os.pipe()
                reads.append(read)
                given += [write, protocol.write_program(tester)]
            protocol.send(self._channel, _request(limits), given)
        except BaseException:
            for descriptor in reads:
                os.close(descriptor)
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        return reads

    def _start(self) -> None:
        self._runs, self._asked = 0, False
        self._folder = Path(tempfile.mkdtemp(prefix="thinkling-sandbox-"))
        self._folder.chmod(0o711)  # the unprivileged child must traverse this folder to reach its own
        self._channel, far = protocol.channel()
        with far, open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*self._prefix(), *_command(far.fileno(), self._folder), packages.describe(self._packages)],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_ENVIRONMENT | packages.ENVIRONMENT,
                start_new_session=True,  # keeps Ctrl-C in the terminal from reaching the server
            )
        self._channel.settimeout(START_SECONDS)
        try:
            missing = protocol.receive(self._channel)[0].decode()
        except (OSError, protocol.Closed) as error:
            log = self._last_words()
            self.close()
            raise SandboxUnavailable(f"sandbox: the server did not start ({type(error).__name__}) {log}") from None
        if missing != protocol.NOTHING:
            self.close()
            raise SandboxUnavailable(f"sandbox: {missing}")

    def _prefix(self) -> list[str]:
        """Return the prefix of the server's command. At level `bubblewrap`, the server and its children run in separate
        namespaces."""
        if self._level == "strict":
            return []
        if shutil.which("bwrap") is None:
            raise SandboxUnavailable(
                "sandbox: level bubblewrap needs the program bwrap; run apt-get install bubblewrap"
            )
        shown = ["/usr", "/lib", "/lib64", sys.base_prefix, os.fspath(_SOURCE / "thinkling")]
        shown += [path for folder in packages.locations(self._packages).values() for path in (folder, f"{folder}.libs")]
        binds = [part for path in shown if os.path.exists(path) for part in ("--ro-bind", path, path)]
        user = ["--unshare-user", "--uid", "65534", "--gid", "65534"]  # not root inside the namespace
        folder = ["--bind", os.fspath(self._folder), os.fspath(self._folder)]
        return ["bwrap", "--unshare-all", *user, "--proc", "/proc", "--dev", "/dev", *binds, *folder, "--"]

    def _last_words(self) -> str:
        log = self._folder / "log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """Kill the server. The kernel then kills the server's children."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@lru_cache(maxsize=16)
def _request(limits: Limits) -> bytes:
    return json.dumps(asdict(limits)).encode()


def _stdin(text: str) -> int:
    """Return a descriptor of a file with the standard input. A file, unlike a pipe, never blocks the writer."""
    return protocol.sealed(text.encode("utf-8", "surrogatepass")) if text else os.open(os.devnull, os.O_RDONLY)


def _command(channel: int, folder: Path) -> list[str]:
    """Return the server's command. It uses the base Python of the virtual environment, because the server only needs
    the standard library."""
    return [
        os.path.realpath(sys.executable),
        *_FLAGS,
        "-c",
        _BOOT,
        os.fspath(_SOURCE),
        str(channel),
        os.fspath(folder),
    ]
