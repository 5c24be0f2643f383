"""The sandbox: the only place where model-written code runs."""

from __future__ import annotations

import os
import queue
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from thinkling.errors import UserError
from thinkling.sandbox import protocol
from thinkling.sandbox.client import ForkServer, Level
from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable
from thinkling.sandbox.packages import importable
from thinkling.sandbox.probes import probe
from thinkling.sandbox.session import Session

RECYCLE = 2000
"""Number of runs after which a server is replaced."""


class Sandbox:
    """A pool of fork-servers, one per worker. The pool is thread-safe. After a fork, the child process gets its own
    pool.

    Create the sandbox before other work occupies the cores: a server is a fresh interpreter, which takes a few tenths
    of a second to start.
    """

    packages: frozenset[str] = frozenset()
    """Packages that programs and tests can import in addition to the standard library."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int = 1,
        level: Level = "strict",
        recycle: int = RECYCLE,
        packages: Collection[str] = (),
    ) -> None:
        """Start one server and test that it confines programs.

        `level`: `bubblewrap` additionally runs the servers in separate namespaces (files, processes, network) and needs
        the program bwrap. `packages`: packages, out of numpy and sympy, that programs can import in addition to the
        standard library.

        Raises SandboxUnavailable (a UserError) if the server does not confine programs or if a kernel feature, which
        the message states, is missing. Raises UserError if `workers` or `recycle` is below 1, or if a package is
        unknown or not installed."""
        if workers < 1 or recycle < 1:
            raise UserError(f"sandbox: workers is {workers} and recycle is {recycle}; both must be at least 1")
        self.limits = limits or Limits()
        self.workers = workers
        self._level: Level = level
        self._recycle = recycle
        self._packages = tuple(packages)
        self.packages = importable(packages)
        self._open()
        server = self._take()
        try:
            probe(server.run, self.packages)
        except BaseException:
            server.close()
            raise
        self._idle.put(server)

    def run(
        self,
        code: str,
        stdin: str = "",
        files: Mapping[str, bytes] | None = None,
        limits: Limits | None = None,
    ) -> Outcome:
        """Run one program. Failures of the program are reported in the outcome, not raised. Raises UserError if a file
        name contains a folder, or if the files exceed the limit."""
        return self.run_job(Job(code, stdin, files or {}, limits=limits))

    def run_job(self, job: Job) -> Outcome:
        """Run one job, waiting for a free server. Raises SandboxUnavailable if a server cannot be started."""
        limits = job.limits or self.limits
        if sum(map(len, job.files.values())) > limits.disk_bytes:
            raise UserError(f"sandbox files: together larger than disk_bytes {limits.disk_bytes}; raise disk_bytes")
        if self._owner != os.getpid():
            self._open()  # in a forked process, the existing servers belong to the parent
        server = self._take()
        try:
            return server.run(job, limits)
        finally:
            self._idle.put(server)

    def run_many(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs on all workers. Returns the outcomes in the order of the jobs."""
        if self.workers == 1:
            return [self.run_job(job) for job in jobs]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self.run_job, jobs))

    @contextmanager
    def session(self, limits: Limits | None = None) -> Iterator[Session]:
        """Start a process that runs pieces of code in one namespace, until the process or the `with` block ends. The
        session has exclusive use of an idle server or, if all servers are busy, of an additional server, which then
        stays in the pool. `wall_seconds` is the limit per call; `cpu_seconds` is the limit for all calls together.
        Raises SandboxUnavailable if the process cannot be started."""
        if self._owner != os.getpid():
            self._open()
        server = None
        with suppress(queue.Empty):
            server = self._idle.get_nowait()
        try:
            server = server or ForkServer(self._level, self._recycle, self._packages)
            try:
                opened = server.open_session(limits or self.limits)
            except (OSError, protocol.Closed) as error:
                raise SandboxUnavailable(f"sandbox: the server has died ({error or 'it closed its channel'})") from None
            with opened:
                yield opened
        finally:
            self._idle.put(server)

    def close(self) -> None:
        """Kill the servers. This also happens automatically at exit."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._owner = os.getpid()
        self._idle: queue.LifoQueue[ForkServer | None] = queue.LifoQueue()
        for _ in range(self.workers):
            self._idle.put(None)  # the server is started when first needed
        self._finalizer = weakref.finalize(self, _close_all, self._idle, self._owner)

    def _take(self) -> ForkServer:
        server = self._idle.get()
        if server is not None:
            return server
        try:
            return ForkServer(self._level, self._recycle, self._packages)
        except BaseException:
            self._idle.put(None)
            raise


def _close_all(idle: queue.LifoQueue[ForkServer | None], owner: int) -> None:
    if owner != os.getpid():
        return
    with suppress(queue.Empty):
        while True:
            server = idle.get_nowait()
            if server is not None:
                server.close()
