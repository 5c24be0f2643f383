"""Workers that are killed at their deadline, and nobody else notices."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from thinkling.verify.pool import Pool, Request, shared

BOMB = Request("5!!!!!!", "7")
QUICK = [Request(rf"\sqrt{{{n * n * 2}}}", rf"{n}\sqrt{{2}}") for n in range(2, 14)]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(workers=2, deadline_seconds=1.5, slice_seconds=0.1)
    yield pool
    pool.close()


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_every_kind_of_reply(pool: Pool) -> None:
    requests = [
        Request(r"\sqrt{8}", r"2\sqrt{2}"),
        Request(r"\sqrt{8}", r"2\sqrt{3}"),
        Request(r"\sqrt{8}", r"\frac\sqrt"),
        Request(r"\frac\sqrt", r"\sqrt{8}"),
    ]
    assert [reply.kind for reply in pool.compare_many(requests)] == ["equal", "different", "unreadable", "undecided"]
    assert pool.compare_many([]) == []


def test_bombs_end_at_their_deadline_and_the_others_come_first(pool: Pool) -> None:
    bombs = [BOMB, Request("7", r"9^{9^{9^{9}}}"), Request("x+1", r"(10^{6})!!")]
    replies = pool.compare_many([*bombs, *QUICK])
    assert {reply.kind for reply in replies[3:]} == {"equal"}
    assert {reply.kind for reply in replies[:3]} <= {"timeout", "different"}
    late = [reply for reply in replies if reply.kind == "timeout"]
    assert late
    assert all(1.5 <= reply.seconds < 6.0 for reply in late)
    assert max(reply.finished for reply in replies[3:]) < min(reply.finished for reply in late)


def test_a_slice_is_processor_time() -> None:
    """A machine that is busy with other things does not make a comparison a slow one."""
    pool = Pool(workers=1, slice_seconds=0.2)
    pool.compare_many(QUICK[:1])
    (before,) = pool.workers
    os.kill(before.pid, signal.SIGSTOP)
    thread = threading.Timer(1.0, os.kill, (before.pid, signal.SIGCONT))
    thread.start()
    replies = pool.compare_many(QUICK)
    thread.join()
    (after,) = pool.workers
    pool.close()
    assert {reply.kind for reply in replies} == {"equal"}
    assert replies[0].seconds > 0.5
    assert after.pid == before.pid


def test_a_killed_worker_is_gone_and_replaced(pool: Pool) -> None:
    pool.compare_many(QUICK)
    before = [worker.pid for worker in pool.workers]
    assert [reply.kind for reply in pool.compare_many([BOMB, BOMB])] == ["timeout", "timeout"]
    assert not any(running(pid) for pid in before)
    assert {reply.kind for reply in pool.compare_many(QUICK)} == {"equal"}


def test_a_worker_that_dies_is_replaced_and_its_work_done_again(pool: Pool) -> None:
    pool.compare_many(QUICK)
    for worker in pool.workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert {reply.kind for reply in pool.compare_many(QUICK)} == {"equal"}


def test_a_comparison_that_kills_its_worker_twice_is_exhausted() -> None:
    pool = Pool(workers=1, deadline_seconds=30)
    pool.compare_many(QUICK[:1])
    replies: list = []
    thread = threading.Thread(target=lambda: replies.extend(pool.compare_many([BOMB])))
    thread.start()
    killed: set[int] = set()
    while thread.is_alive() and len(killed) < 2:
        for worker in list(pool.workers):
            if worker.job is not None and worker.pid not in killed and running(worker.pid):
                time.sleep(0.1)
                os.kill(worker.pid, signal.SIGSEGV)
                killed.add(worker.pid)
        time.sleep(0.01)
    thread.join()
    pool.close()
    assert [reply.kind for reply in replies] == ["exhausted"]
    assert "died twice (SIGSEGV)" in replies[0].detail


def test_a_server_that_dies_is_started_again(pool: Pool) -> None:
    pool.compare_many(QUICK[:1])
    assert pool._server is not None
    pool._server.kill()
    pool._server.wait()
    assert {reply.kind for reply in pool.compare_many(QUICK)} == {"equal"}


def test_no_server_is_a_failure_never_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = Pool(workers=1)
    replies = pool.compare_many(QUICK[:2])
    assert [reply.kind for reply in replies] == ["failed", "failed"]
    assert "did not start" in replies[0].detail


def test_memory_is_limited() -> None:
    pool = Pool(workers=1, deadline_seconds=20, memory_bytes=1 << 29)
    reply, after = pool.compare_many([Request("2^{2^{36}} - 1", "2^{2^{36}} - 2"), QUICK[0]])
    pool.close()
    assert reply.kind in ("exhausted", "different", "undecided")
    assert after.kind == "equal"


def test_nothing_outlives_its_parent() -> None:
    script = (
        "import os, signal, threading, time\n"
        "from thinkling.verify.pool import Pool, Request\n"
        "pool = Pool(workers=1, deadline_seconds=60)\n"
        "threading.Thread(target=lambda: pool.compare_many([Request('5!!!!!!', '7')]), daemon=True).start()\n"
        "while not (pool.workers and pool.workers[0].job): time.sleep(0.01)\n"
        "print(pool._server.pid, pool.workers[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2, ended.stderr
    wait_until(lambda: not any(running(pid) for pid in pids))


def test_threads_share_a_pool(pool: Pool) -> None:
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append([reply.kind for reply in pool.compare_many(QUICK)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["equal"] * len(QUICK)] * 4


def test_the_shared_pool_belongs_to_its_process() -> None:
    mine = shared()
    assert shared() is mine
    pid = os.fork()
    if pid == 0:
        os._exit(0 if shared() is not mine else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_workers_never_load_torch() -> None:
    script = "import sys, thinkling.verify.pool_server, thinkling.verify.symbolic; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-P", "-c", script], timeout=100).returncode == 0
