"""The fork-server: a clean, single-threaded interpreter that forks one child per run (two for a run with tests) and
monitors them.

The server is trusted and may be root. It sees neither programs nor their output, because both pass through descriptors
that only the children use. client.py starts the server. The server ends when its channel closes. The server imports few
modules, because the time of a fork grows with the number of pages.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import fcntl
import gc
import importlib
import json
import os
import pwd
import random
import resource
import socket
import sys
import time
from contextlib import suppress
from functools import lru_cache

from thinkling.sandbox import child, kernel, library, packages, protocol
from thinkling.sandbox.inspector import Inspector
from thinkling.sandbox.judged import LINK
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.seccomp import filter_rows
from thinkling.sandbox.watch import Watch

Rlimits = list[tuple[int, tuple[int, int]]]
SPARE_TASKS = 4096
"""RLIMIT_NPROC is set to the number of the user's current tasks plus this value. RLIMIT_NPROC is only a second line of
defence, because the thread limit of the run is checked at every tick."""

# Modules that most programs use, imported before the fork. A child imports other modules from the library's files.
PRELOADED = (
    "array ast bisect cmath collections.abc contextlib copy dataclasses datetime decimal enum fractions functools "
    "heapq itertools json math numbers operator os random re statistics string threading time traceback types typing"
)


def main() -> None:
    """Run the server. Command-line arguments: descriptor of the channel, folder of this server, packages (see
    packages.py)."""
    channel = socket.socket(fileno=_above(int(sys.argv[1])))
    root = sys.argv[2]
    missing = kernel.missing_feature()
    if missing is not None:
        protocol.send(channel, missing.encode())
        return
    server = Server(channel, root, sys.argv[3])
    protocol.send(channel, protocol.NOTHING.encode())
    with suppress(protocol.Closed, BrokenPipeError, ConnectionResetError):
        server.serve()
    with suppress(OSError):  # the sandbox may be removing the folder at the same time
        os.rmdir(server.folder)
        os.unlink(os.path.join(root, "log"))
        os.rmdir(root)


def _above(descriptor: int) -> int:
    """Move the channel above the descriptors that children use, and reserve the lower descriptors."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LINK + 1)
    os.close(descriptor)
    null = os.open(os.devnull, os.O_RDWR)
    for low in (child.RESULTS, library.DESCRIPTOR, LINK):
        if low != null:
            os.dup2(null, low)
    return moved


class Server:
    """Forks and monitors one child at a time."""

    def __init__(self, channel: socket.socket, root: str, described: str) -> None:
        self.channel = channel
        self.folder = os.path.join(root, "run")
        os.mkdir(self.folder, mode=0o700)
        identity = _identity()
        for name in PRELOADED.split():
            importlib.import_module(name)
        folders = packages.load(described)
        abi = kernel.landlock_abi()
        ruleset = kernel.create_ruleset(abi)
        kernel.allow_path(ruleset, self.folder, kernel.PRIVATE)
        kernel.allow_path(ruleset, os.devnull, kernel.DEVICE)
        library.allow(ruleset)
        for folder in folders:
            kernel.allow_path(ruleset, folder, kernel.READ)
        keep_library = identity is not None and not library.reachable()
        if keep_library:
            library.enter_by_descriptor()
        library.remember_folders()
        if identity is not None:
            os.chown(self.folder, *identity)
        self.cell = child.Cell(
            ruleset=ruleset,
            abi=abi,
            calls=kernel.InstallableFilter(filter_rows(os.uname().machine)),
            identity=identity,
            server=os.getpid(),
            first_closed=library.DESCRIPTOR + keep_library,
        )
        self._prepare(os.getuid() if identity is None else identity[0])
        self.inspector = Inspector(self.folder)
        gc.collect()
        gc.freeze()
        gc.disable()

    def _prepare(self, user: int) -> None:
        """Set up the state that all children inherit, which saves time in each child."""
        os.chdir(self.folder)
        os.umask(0o077)
        os.environ.clear()
        os.environ.update(HOME=self.folder, TMPDIR=self.folder, LANG="C.UTF-8", TZ="UTC")
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # these processes are killed first if the machine runs out of memory
        for what, value in (
            (resource.RLIMIT_NPROC, _tasks_of(user) + SPARE_TASKS),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            resource.setrlimit(what, _lowered(what, value, value))
        random.seed(0)  # makes outcomes reproducible
        for name in ("exit", "quit"):
            setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))  # as Python's site module does
        child.open_streams()

    def serve(self) -> None:
        """Serve requests until the channel closes, which raises protocol.Closed or OSError."""
        while True:
            request, descriptors = protocol.receive(self.channel)
            if not descriptors:  # a command for a run that has already ended
                continue
            reply = self._run(*_read(request), descriptors)
            self.inspector.empty_folder()
            protocol.send(self.channel, reply)

    def _run(self, limits: Limits, rlimits: Rlimits, descriptors: list[int]) -> bytes:
        ends, program, of_tester = descriptors[:4], descriptors[4], descriptors[5:]
        link = None
        started = time.monotonic()
        pids = []
        if of_tester:
            far, link, reports, tests = of_tester
            pids.append(kernel.fork())
            if pids[-1] == 0:
                null = child.RESULTS  # refers to /dev/null in the server
                child.live(self.cell, tests, rlimits, (null, null, null, reports), far)
        pids.append(kernel.fork())
        if pids[-1] == 0:
            child.live(self.cell, program, rlimits, ends, link)
        watch = Watch(pids, limits, self.inspector, self.channel)
        for descriptor in descriptors:
            os.close(descriptor)
        watch.until_exit()
        status, seconds = 0, 0.0
        for pid in pids:  # the program is last, because its end takes precedence over the tester's
            _, found, usage = os.wait4(pid, 0)
            status = found if found and pid not in watch.unneeded else status
            seconds = max(seconds, usage.ru_utime + usage.ru_stime)
        return protocol.ENDED.pack(status, time.monotonic() - started, seconds) + (watch.stopped or "").encode()


@lru_cache(maxsize=16)
def _read(request: bytes) -> tuple[Limits, Rlimits]:
    """Parse the limits of a request. Cached, because most requests have the same limits."""
    limits = Limits(**json.loads(request))
    wanted = (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, limits.disk_bytes, limits.disk_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
    )
    return limits, [(what, _lowered(what, soft, hard)) for what, soft, hard in wanted]


def _lowered(what: int, soft: int, hard: int) -> tuple[int, int]:
    """Lower a limit to the hard limit that already applies to this process."""
    lowest = resource.getrlimit(what)[1]
    return (soft, hard) if lowest == resource.RLIM_INFINITY else (min(soft, lowest), min(hard, lowest))


def _identity() -> tuple[int, int] | None:
    """Return the user and group to which children of a root server switch. None if the server is not root, or is root
    of a user namespace without other users; children then keep their user but still lose their capabilities."""
    if os.getuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
        user, group = nobody.pw_uid, nobody.pw_gid
    except KeyError:
        user = group = 65534
    return (user, group) if _mapped("uid_map", user) and _mapped("gid_map", group) else None


def _mapped(table: str, number: int) -> bool:
    """Whether this user namespace maps a user or group (user_namespaces(7))."""
    with open(f"/proc/self/{table}") as lines:
        ranges = [line.split() for line in lines]
    return any(int(first) <= number < int(first) + int(size) for first, _, size in ranges)


def _tasks_of(user: int) -> int:
    """Return the number of threads of a user, which RLIMIT_NPROC counts together with the child's threads."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    total += len(os.listdir(f"/proc/{name}/task"))
    return total
