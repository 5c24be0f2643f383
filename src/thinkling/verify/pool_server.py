"""The fork server of the pool (pool.py): a fresh interpreter that loads math-verify and forks the workers.

Usage: `python -P -m thinkling.verify.pool_server DESCRIPTOR MEMORY`. The server itself never parses answers. The server
accepts two kinds of messages on the channel (JSON, one message per packet). `fork`, with a socket for the worker,
returns the worker's pid. `end` kills a worker and returns its wait status. A worker is only reaped on this message, so
that its pid is not reused while the pool still refers to it. All workers are killed when the channel closes or the
parent process has ended.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1
_PARENT_SECONDS = 1.0
PROBES = (
    (r"\sqrt{8}", r"2\sqrt{2}", True),
    (r"\frac{x}{2}", "x", False),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
)
"""Comparisons made before the first fork, so that a broken math-verify results in errors rather than wrong verdicts."""
WARM_UP = (
    (r"\frac{\sqrt{3}}{2} + \pi", r"\pi + \frac{\sqrt{3}}{2} + 0"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("y = 2x + 3", "2x - y + 3 = 0"),
    (r"\sin^2 x + \cos x - \log_{2} y", r"\cos x + \sin^2 x - \log_2 y"),
    ("-1 + 2i", "2i - 1"),
    (r"\sqrt[3]{2}", "2^{1/3}"),
    (r"\frac{x-1}{2y}", r"\frac{-1+x}{2 \times y}"),
    ("e^{2x}", "(e^x)^2"),
    ("x_1!", "x_{1}!"),
    ("x + y < 2", "2 > y + x"),
    ("x^{12}", "x^{123}"),
    (r"12\sqrt{345}", r"\frac{12\sqrt{3}}{45}"),
    ("x^2 + 24x + 144", "(x+12)^2"),
    (r"\frac{12x^{10} - 3y}{45(x+1)}", r"3x^2y^{12} - 123xy + 45"),
    (r"12\pi - 3.45", r"\frac{123}{45}\pi"),
    (r"a^2b^{-1} + \frac{a}{b^2}", "-12a(b - 3)^{2} + c"),
)
"""Comparisons made before the first fork to fill the caches of sympy and of the parser, which caches its decisions on
token sequences. Workers inherit the caches, so that the first comparison of each kind does not take longer than a
slice."""


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    parent = os.getppid()
    try:
        failure = _probe()
    except Exception as error:  # any failure means that math-verify does not work
        failure = f"{type(error).__name__}: {error}"
    channel.send(json.dumps({"failure": failure}).encode())
    children: set[int] = set()
    while failure is None:
        if not select.select([channel], [], [], _PARENT_SECONDS)[0]:
            if os.getppid() != parent:
                break
            continue
        data, descriptors, _, _ = socket.recv_fds(channel, 4096, 1)
        if not data:
            break
        message = json.loads(data)
        if message["do"] == "fork":
            reply = {"pid": _fork(channel, descriptors[0], int(sys.argv[2]))}
            children.add(reply["pid"])
            os.close(descriptors[0])
        else:
            reply = {"status": _end(message["pid"])}
            children.discard(message["pid"])
        channel.send(json.dumps(reply).encode())
    for pid in children:
        _end(pid)


def _probe() -> str | None:
    """Load and test math-verify. Returns None if it works, otherwise a description of the failure."""
    from thinkling.verify.symbolic import compare

    for reference, answer, expected in PROBES:
        if compare(reference, answer, "") is not expected:
            return f"math-verify does not work: {reference} and {answer}"
    for reference, answer in WARM_UP:
        compare(reference, answer, "")
    gc.collect()
    gc.freeze()  # lets garbage collection in workers skip what is loaded here; it could take a whole slice
    return None


def _end(pid: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _fork(channel: socket.socket, descriptor: int, memory: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:  # the worker process, which never returns from this block
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        channel.close()
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _work(socket.socket(fileno=descriptor))
    finally:
        os._exit(0)


def _work(channel: socket.socket) -> None:
    """Reply to JSON lines until the pool closes the socket."""
    for line in channel.makefile("r", encoding="utf-8"):
        request: dict[str, str] = json.loads(line)
        try:
            reply = _answer(request)
        except (MemoryError, RecursionError) as error:
            reply = {"kind": "exhausted", "detail": type(error).__name__}
        channel.sendall(json.dumps(reply).encode() + b"\n")


def _answer(request: dict[str, str]) -> dict[str, Any]:
    from thinkling.verify import symbolic

    try:
        equal = symbolic.compare(request["reference"], request["answer"], request["question"])
    except symbolic.Unreadable as error:
        return {"kind": "unreadable", "detail": str(error)}
    except symbolic.Undecided as error:
        return {"kind": "undecided", "detail": str(error)[:200]}
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # sympy may raise anything on a strange expression
        return {"kind": "undecided", "detail": f"{type(error).__name__}: {error}"[:200]}
    return {"kind": "equal" if equal else "different", "detail": ""}


if __name__ == "__main__":
    main()
