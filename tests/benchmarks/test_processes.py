"""The watcher sees memory of children and attempts to use the network."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.processes import AUDIT, can_cut_off, watch

MIB = 2**20


def test_memory_of_a_grandchild_counts(tmp_path: Path) -> None:
    grandchild = f"x = bytearray({200 * MIB}); import time; time.sleep(0.6)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    small = watch([sys.executable, "-c", "import time; time.sleep(0.3)"], tmp_path, every=0.02)
    large = watch([sys.executable, "-c", child], tmp_path, every=0.02)
    assert large.status == small.status == 0
    assert large.seconds > 0.6
    assert 200 * MIB < large.peak_bytes < 300 * MIB
    assert small.peak_bytes < 50 * MIB
    assert small.network == large.network == ()


def test_status_is_passed_on(tmp_path: Path) -> None:
    assert watch([sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path, every=0.02).status == 3


def test_network_attempts_are_counted_even_if_swallowed(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "for attempt in (lambda: socket.create_connection(('127.0.0.1', 9), timeout=1),\n"
        "                lambda: socket.getaddrinfo('localhost', 80)):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError:\n"
        "        pass\n"
    )
    watched = watch([sys.executable, "-c", code], tmp_path, every=0.02)
    assert watched.status == 0
    assert any("socket.connect" in line and "127.0.0.1" in line for line in watched.network)
    assert any("localhost" in line for line in watched.network)


def test_local_sockets_are_no_network(tmp_path: Path) -> None:
    code = f"{AUDIT}\nimport socket\na, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'\n"
    assert watch([sys.executable, "-c", code], tmp_path, every=0.02).network == ()


def test_a_namespace_without_network_is_used_where_there_is_one(tmp_path: Path) -> None:
    routes = "print(len(open('/proc/net/route').readlines()[1:]), file=open('routes', 'w'))"
    watched = watch([sys.executable, "-c", routes], tmp_path, every=0.02)
    assert watched.cut_off == can_cut_off()
    if watched.cut_off:
        assert int((tmp_path / "routes").read_text()) == 0
