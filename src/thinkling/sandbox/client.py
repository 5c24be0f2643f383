"""One fork-server as the sandbox's process sees it: started, asked, killed, started again."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from thinkling.sandbox import protocol
from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable, judge, unavailable

START_SECONDS = 60.0
GRACE_SECONDS = 15.0
"""What a server may take beyond a program's wall clock before it counts as hung."""
_SOURCE = Path(__file__).resolve().parents[2]
# Programs find neither the package nor what lies beside it.
_BOOT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from thinkling.sandbox.server import main
sys.path.pop(0)
for name in [name for name in sys.modules if name.partition(".")[0] == "thinkling"]:
    del sys.modules[name]
main()
"""
# An empty environment and these flags are -I, except that the hash seed is fixed: the order of a set is the same in
# every server, and so is what a program prints.
_FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class ForkServer:
    """Not safe to share between threads or across a fork: sandbox.py hands it to one run at a time."""

    def __init__(self, python: str, recycle: int) -> None:
        """Starts it. SandboxUnavailable: the machine lacks a feature, or the server did not start."""
        self._python, self._recycle = python, recycle
        self._start()

    def run(self, job: Job, limits: Limits) -> Outcome:
        """One run. A server that dies is started again and asked once more; then the outcome is `unavailable`."""
        if self._runs >= self._recycle:
            self.close()
            self._start()
        for _ in range(2):
            nonce = secrets.token_hex(16)
            try:
                self._ask(job, limits, nonce)
                reply, streams = protocol.receive(self._channel)
            except (OSError, protocol.Closed) as error:
                reason = str(error) or "it closed its channel"
                log = self._last_words()
                self.close()
                self._start()
            else:
                self._runs += 1
                return judge(reply, streams, nonce, len(job.steps), limits)
        return unavailable(f"the fork-server died twice ({reason}) {log}", len(job.steps))

    def _ask(self, job: Job, limits: Limits, nonce: str) -> None:
        self._channel.settimeout(limits.wall_seconds + GRACE_SECONDS)
        request = {
            "code": job.code,
            "steps": [(step.kind, step.source) for step in job.steps],
            "nonce": nonce,
            "limits": asdict(limits),
            "files": list(job.files),
        }
        protocol.send(self._channel, request, [job.stdin.encode("utf-8", "surrogatepass"), *job.files.values()])

    def _start(self) -> None:
        self._runs = 0
        self._folder = Path(tempfile.mkdtemp(prefix="thinkling-sandbox-"))
        self._folder.chmod(0o711)  # the unprivileged child passes through it to its own folder
        self._channel, far = socket.socketpair()
        with far, open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [self._python, *_FLAGS, "-c", _BOOT, os.fspath(_SOURCE), str(far.fileno()), os.fspath(self._folder)],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_ENVIRONMENT,
                start_new_session=True,  # a Ctrl-C in the terminal is ours alone
            )
        self._channel.settimeout(START_SECONDS)
        try:
            hello, _ = protocol.receive(self._channel)
        except (OSError, protocol.Closed) as error:
            log = self._last_words()
            self.close()
            raise SandboxUnavailable(f"sandbox: its server did not start ({type(error).__name__}) {log}") from None
        if hello["missing"] is not None:
            self.close()
            raise SandboxUnavailable(f"sandbox: {hello['missing']}")

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """Kills the server; the kernel kills its child with it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def interpreter() -> str:
    """The Python of the servers: this one, whose library they read."""
    return sys.executable
