"""A pool of worker processes for algebraic comparisons, which have no time limit of their own. Workers are killed at a
deadline.

The timeout of math-verify needs SIGALRM in the main thread and cannot interrupt C code. Here the deadline is enforced
from outside: a worker that exceeds it is killed and replaced, within milliseconds, by a fork of a server that has
loaded all modules. Slow comparisons do not delay quick comparisons: a comparison that is not finished after a slice of
time waits until all quick comparisons of the batch are finished, and then gets a longer slice. Messages are JSON lines
over sockets, without pickle.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["equal", "different", "unreadable", "undecided", "exhausted", "timeout", "failed"]
START_SECONDS = 300.0
DEADLINE_SECONDS = 5.0
SLICE_SECONDS = 0.075
"""CPU time of the first slice, which limits how long an endless comparison delays the other comparisons of its batch.
Each further slice is GROWTH times as long, up to the deadline, which is wall-clock time."""
GROWTH = 4
MEMORY_BYTES = 2 << 30
MOST_COMPARISONS = 1000
"""Number of comparisons after which a worker is replaced, because sympy's caches grow without limit."""
_TRIES = 2
_TICK = 0.005
_PROCESS_CLOCK = 2


@dataclass(frozen=True)
class Request:
    """A comparison to perform: reference and answer in the notation of answers/notation.py, and the question, which may
    determine units and signs."""

    reference: str
    answer: str
    question: str = ""


@dataclass(frozen=True)
class Reply:
    """The result of a comparison.

    `kind` is `equal`, `different`, `unreadable` (the answer is not mathematics), `undecided` (the reference is not
    mathematics, or the comparison failed), `exhausted` (out of memory or stack, or the worker died twice), `timeout`
    (killed at the deadline) or `failed` (the pool failed). `seconds`: duration of the last attempt in a worker;
    `finished`: time from the start of the batch to the result."""

    kind: Kind
    detail: str = ""
    seconds: float = 0.0
    finished: float = 0.0


class PoolFailure(Exception):
    """Raised if the server did not start, or has died."""


@dataclass
class _Job:
    index: int
    payload: bytes
    slices: int = 0
    tries: int = 0


@dataclass
class _Worker:
    pid: int
    channel: socket.socket
    job: _Job | None = None
    started: float = 0.0
    expires: float = 0.0
    slice: float = 0.0
    cpu: float = 0.0
    """CPU time that the worker had used before its current comparison."""
    final: bool = True
    """Whether the worker may run until the deadline rather than for a slice."""
    received: bytearray = field(default_factory=bytearray)
    done: int = 0


class Pool:
    """A pool of workers, started at first use. Threads may share a pool; their batches run one after another."""

    def __init__(
        self,
        workers: int | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        slice_seconds: float = SLICE_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.size = workers if workers is not None else max(1, min(4, len(os.sched_getaffinity(0))))
        self.deadline_seconds = deadline_seconds
        self.slice_seconds = min(slice_seconds, deadline_seconds)
        self.memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._workers: list[_Worker] = []

    def compare_many(self, requests: Sequence[Request]) -> list[Reply]:
        """Return a reply for each request, in order. Failures of comparisons are reported in the replies, not
        raised."""
        with self._lock:
            batch = _Batch(self, requests)
            for _ in range(_TRIES):
                try:
                    batch.run()
                    return batch.replies()
                except PoolFailure as error:
                    batch.failure = str(error)
                    self._stop()
                except BaseException:
                    self._stop()  # a worker may be in the middle of a comparison
                    raise
            return batch.replies()

    def close(self) -> None:
        """Stop the server and its workers. A later batch starts them again."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.channel.close()
        self._workers = []
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._server is not None:
            try:
                self._server.wait(timeout=5.0)  # the server kills its workers when the channel closes
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def _start(self) -> None:
        self._channel, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        with far, tempfile.TemporaryFile() as log:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "thinkling.verify.pool_server", str(far.fileno()), str(self.memory_bytes)],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,  # keeps Ctrl-C in the terminal from reaching the server
            )
            far.close()
            self._channel.settimeout(START_SECONDS)
            try:
                failure = self._receive()["failure"]
            except PoolFailure as error:
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines() or [""]
                failure = f"{error} {lines[-1][:300]}"
        if failure is not None:
            raise PoolFailure(f"the pool's server did not start: {failure}")

    def _receive(self) -> dict:
        assert self._channel is not None
        try:
            data = self._channel.recv(1 << 16)
        except OSError as error:
            raise PoolFailure(f"{type(error).__name__}: {error}") from None
        if not data:
            raise PoolFailure("the pool's server has ended")
        return json.loads(data)

    def fork(self) -> _Worker:
        """Return a new worker, within milliseconds if the server is running. Raises PoolFailure."""
        if self._server is None:
            self._start()
        assert self._channel is not None
        near, far = socket.socketpair()
        with far:
            try:
                socket.send_fds(self._channel, [b'{"do": "fork"}'], [far.fileno()])
            except OSError as error:
                near.close()
                raise PoolFailure(f"{type(error).__name__}: {error}") from None
        worker = _Worker(self._receive()["pid"], near)
        self._workers.append(worker)
        return worker

    def end(self, worker: _Worker) -> int:
        """Kill a worker and return its wait status. Raises PoolFailure."""
        assert self._channel is not None
        worker.channel.close()
        self._workers.remove(worker)
        try:
            self._channel.send(json.dumps({"do": "end", "pid": worker.pid}).encode())
        except OSError as error:
            raise PoolFailure(f"{type(error).__name__}: {error}") from None
        return self._receive()["status"]

    @property
    def workers(self) -> list[_Worker]:
        return self._workers


class _Batch:
    """The waiting, running and finished jobs of one call of `compare_many`."""

    def __init__(self, pool: Pool, requests: Sequence[Request]) -> None:
        self.pool = pool
        self.failure = "no pool"
        self.began = time.monotonic()
        payloads = [
            json.dumps({"reference": one.reference, "answer": one.answer, "question": one.question}).encode() + b"\n"
            for one in requests
        ]
        self.jobs = [_Job(index, payload) for index, payload in enumerate(payloads)]
        self.waiting: dict[int, deque[_Job]] = {0: deque(self.jobs)}  # by number of slices used
        self.found: dict[int, Reply] = {}
        self.total = len(requests)

    def replies(self) -> list[Reply]:
        return [self.found.get(index) or Reply("failed", self.failure) for index in range(self.total)]

    def run(self) -> None:
        """Run until all requests have replies. Raises PoolFailure after returning all unfinished jobs to the queue."""
        try:
            with selectors.DefaultSelector() as selector:
                while len(self.found) < self.total:
                    self._assign(selector)
                    busy = [worker for worker in self.pool.workers if worker.job is not None]
                    if not busy:
                        continue
                    patience = min(worker.expires for worker in busy) - time.monotonic()
                    for key, _ in selector.select(max(0.0, patience)):
                        self._read(key.data, selector)
                    now = time.monotonic()
                    for worker in [worker for worker in busy if worker.job is not None and worker.expires <= now]:
                        self._expire(worker, selector)
        except PoolFailure:
            self.waiting = {0: deque(job for job in self.jobs if job.index not in self.found)}
            raise

    def _assign(self, selector: selectors.BaseSelector) -> None:
        while any(self.waiting.values()):
            worker = next((worker for worker in self.pool.workers if worker.job is None), None)
            if worker is None and len(self.pool.workers) >= self.pool.size:
                return
            if worker is not None and worker.done >= MOST_COMPARISONS:
                self.pool.end(worker)
                worker = None
            worker = worker or self.pool.fork()
            job = self.waiting[min(slices for slices, jobs in self.waiting.items() if jobs)].popleft()
            worker.job, worker.started = job, time.monotonic()
            seconds = self.pool.slice_seconds * GROWTH**job.slices
            crowded = self.total - len(self.found) > self.pool.size
            worker.final = not crowded or seconds * GROWTH > self.pool.deadline_seconds
            worker.slice, worker.cpu = seconds, _cpu_seconds(worker.pid)
            worker.expires = worker.started + (self.pool.deadline_seconds if worker.final else seconds)
            worker.received.clear()
            selector.register(worker.channel, selectors.EVENT_READ, worker)
            try:
                worker.channel.sendall(job.payload)
            except OSError:
                self._died(worker, selector)

    def _read(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        try:
            data = worker.channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._died(worker, selector)
            return
        worker.received += data
        if not worker.received.endswith(b"\n"):
            return
        reply = json.loads(bytes(worker.received))
        exhausted = reply["kind"] == "exhausted"
        self._finish(worker, selector, self._reply(worker, reply["kind"], reply["detail"]))
        if exhausted:
            self.pool.end(worker)

    def _reply(self, worker: _Worker, kind: Kind, detail: str) -> Reply:
        now = time.monotonic()
        return Reply(kind, detail, now - worker.started, now - self.began)

    def _finish(self, worker: _Worker, selector: selectors.BaseSelector, reply: Reply) -> None:
        assert worker.job is not None
        selector.unregister(worker.channel)
        self.found[worker.job.index] = reply
        worker.job = None
        worker.done += 1

    def _expire(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        """Kill a worker at its deadline or at the end of its slice. After a slice, the comparison is restarted once the
        quick comparisons are finished."""
        job = worker.job
        assert job is not None
        if worker.final:
            detail = f"killed after {self.pool.deadline_seconds:g} s"
            self._finish(worker, selector, self._reply(worker, "timeout", detail))
        elif (left := self._left(worker)) > 0:
            worker.expires = time.monotonic() + left
            return
        else:
            job.slices += 1
            self._again(worker, selector)
        self.pool.end(worker)

    def _left(self, worker: _Worker) -> float:
        """Return the seconds for which a worker may still run: the CPU time left in its slice (on a busy machine, CPU
        time passes slowly), but at most the time to the deadline. If the result is not positive, the worker must be
        stopped."""
        left = worker.slice - (_cpu_seconds(worker.pid) - worker.cpu)
        return min(left, worker.started + self.pool.deadline_seconds - time.monotonic()) if left > _TICK else 0.0

    def _died(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        """Handle the death of a worker, caused by its resource limits or from outside. The comparison is retried in a
        new worker; after a second death it counts as exhausted."""
        job = worker.job
        assert job is not None
        job.tries += 1
        if job.tries < _TRIES:
            self._again(worker, selector)
            self.pool.end(worker)
            return
        selector.unregister(worker.channel)
        worker.job = None
        status = self.pool.end(worker)
        cause = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        self.found[job.index] = self._reply(worker, "exhausted", f"its worker died twice ({cause})")

    def _again(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        assert worker.job is not None
        selector.unregister(worker.channel)
        self.waiting.setdefault(worker.job.slices, deque()).append(worker.job)
        worker.job = None


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in seconds (see clock_getcpuclockid(3)); 0 if the process has ended."""
    try:
        return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
    except OSError:
        return 0.0


_shared: tuple[int, Pool] | None = None
_shared_lock = threading.Lock()


def shared() -> Pool:
    """Return the pool of this process. A forked process gets its own pool."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), Pool())
            atexit.register(_close_shared, os.getpid())
        return _shared[1]


def _close_shared(pid: int) -> None:
    if _shared is not None and _shared[0] == pid == os.getpid():
        _shared[1].close()
