"""Where a measurement was made: the machine, described in one line without names or paths, and the commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


def describe() -> str:
    """CPU model, cores available to this process, memory, operating system, and versions that affect speed."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    memory = round(psutil.virtual_memory().total / 2**30)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{cpu[1] if cpu else platform.machine()}, {cores} cores, {memory} GB, {system}, "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def commit(root: Path = ROOT) -> str:
    """HEAD, with `-dirty` if the tree differs from it; changes to results are ignored."""
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return f"{head}-dirty" if changed else head


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()
