"""Attacks that every sandbox attempts at start-up. If an attack succeeds, the sandbox is unavailable on this
machine."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Collection

from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable, Status

LIMITS = Limits(cpu_seconds=5, wall_seconds=20.0, memory_bytes=512 * 2**20, disk_bytes=4 * 2**20)
_LOOP = Limits(cpu_seconds=5, wall_seconds=0.2)

# An attempt that returns normally has succeeded. The last two attempts must succeed.
_PROGRAM = """
import json, os, signal, socket, subprocess, sys, tempfile, threading
home, = sys.stdin.read().split("\\n")
def udp():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def tcp():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
def fork():
    if os.fork() == 0:
        os._exit(0)
def large():
    try:
        with open("large", "wb") as file:
            for _ in range(32):
                file.write(bytes(1 << 20))
    finally:
        os.remove("large")  # it counts against what comes after it
def scratch():
    with tempfile.TemporaryFile() as file:
        file.write(b"1")
def thread():
    one = threading.Thread(target=int)
    one.start()
    one.join()
attempts = {
    "reading /etc/passwd": lambda: open("/etc/passwd").read(),
    "listing the user's home": lambda: os.listdir(home),
    "a TCP socket": tcp,
    "a UDP socket": udp,
    "a new process": fork,
    "another program": lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),
    "a signal to the parent": lambda: os.kill(os.getppid(), 0),
    "3 GB of memory": lambda: bytearray(3 << 30),
    "a file of 32 MB": large,
    "a private file": scratch,
    "a thread": thread,
}
got_through = []
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError, RuntimeError):  # what a refusal raises; anything else is a fault of these probes
        continue
    got_through.append(name)
print(json.dumps(got_through))
"""
_WANTED = ["a private file", "a thread"]


def probe(run: Callable[[Job, Limits], Outcome], packages: Collection[str] = ()) -> None:
    """Run the attempts. Raises SandboxUnavailable if an attack succeeds, a well-behaved program does not work, an
    endless loop is not stopped, or a package cannot be imported."""
    outcome = run(Job(_PROGRAM, stdin=pwd.getpwuid(os.getuid()).pw_dir), LIMITS)
    if outcome.status != Status.OK:
        said = f"{outcome.status}, {outcome.detail} {outcome.stderr[-300:]}"
        raise SandboxUnavailable(f"sandbox: the start-up probes failed to run: {said}")
    got_through = json.loads(outcome.stdout)
    leaks = [name for name in got_through if name not in _WANTED]
    if leaks:
        raise SandboxUnavailable(
            f"sandbox: a test program was not stopped from using {', '.join(leaks)}, so this machine cannot confine "
            "programs"
        )
    for name in _WANTED:
        if name not in got_through:
            raise SandboxUnavailable(f"sandbox: a program cannot use {name}; set TMPDIR to a world-accessible folder")
    for name in sorted(packages):
        outcome = run(Job(f"import {name}"), LIMITS)
        if outcome.status != Status.OK:
            raise SandboxUnavailable(
                f"sandbox: a program cannot import {name}: {outcome.detail} {outcome.stderr[-300:]}"
            )
    endless = run(Job("while True: pass"), _LOOP)
    if endless.status != Status.TIMEOUT:
        raise SandboxUnavailable(
            f"sandbox: an endless loop was not stopped at its time limit, but ended with status {endless.status}"
        )
