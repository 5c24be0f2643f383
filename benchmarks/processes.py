"""Runs a command and records wall time, resident memory of the whole process tree and attempts to use the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Loaded by every Python in the process tree: records every name lookup and every connection to an internet address.
AUDIT = """
import os, sys

def note(event, arguments):
    if event == "socket.getaddrinfo":
        wanted = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        wanted = arguments[1]
    else:
        return
    with open(os.environ["THINKLING_NETWORK_LOG"], "a") as log:
        log.write(f"{event} {wanted!r}\\n")

sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Watched:
    """What a command did."""

    status: int
    seconds: float
    peak_bytes: int
    """Largest sum of the resident memory of its processes; shared pages count once per process."""
    network: tuple[str, ...]
    """Attempts by Python code to look up a name or to reach an internet address."""
    cut_off: bool
    """Whether it ran in a network namespace without any device, where other programs' attempts fail too."""


def two_cores() -> int:
    """Restricts this process and its children to at most two cores; returns the number of cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    return len(os.sched_getaffinity(0))


def can_cut_off() -> bool:
    """Whether this machine allows us to create a network namespace."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode == 0


def resident_bytes(root: psutil.Process) -> int:
    """Resident memory of a process and its descendants; processes that have just ended count as 0."""
    total = 0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def watch(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, every: float = 0.1) -> Watched:
    """Runs `command`, without a network if possible, with its output on our stderr; samples memory `every` seconds."""
    cut_off = can_cut_off()
    whole = ["unshare", "-rn", *command] if cut_off else list(command)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(AUDIT, encoding="utf-8")
        log = Path(folder) / "network.log"
        log.touch()
        environment = {**(os.environ if env is None else env), "PYTHONPATH": folder, "THINKLING_NETWORK_LOG": str(log)}
        began, peak = time.monotonic(), 0
        with subprocess.Popen(whole, cwd=cwd, env=environment, stdout=sys.stderr) as process:
            tree = psutil.Process(process.pid)
            while process.poll() is None:
                peak = max(peak, resident_bytes(tree))
                time.sleep(every)
            seconds = time.monotonic() - began
        attempts = tuple(log.read_text(encoding="utf-8").splitlines())
    return Watched(process.returncode, seconds, peak, attempts, cut_off)
