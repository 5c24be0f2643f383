"""A process next to the fork-server that inspects the files and threads of children and empties their folder.

The program chooses file names and descriptor numbers. The server must not read them, because every later child inherits
the server's memory, even freed memory. The inspector is forked before the first run and never forks.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from contextlib import suppress
from typing import NoReturn

from thinkling.sandbox import kernel, protocol
from thinkling.sandbox.limits import Limits

MOST_FILES = 256
"""Maximum number of files in the private folder. Further files are not counted."""
_REQUEST = struct.Struct("<iQQ")  # process id (0: empty the folder), maximum bytes, maximum threads
_FINE, _DISK, _THREADS = b"f", b"d", b"t"
_REASONS = {_FINE: None, _DISK: "disk", _THREADS: "threads"}
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Errors raised if a process or thread ends during inspection. While a process is ending, the kernel denies access to
the process's descriptors."""


class Inspector:
    """The server's interface to the inspector."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.utime(folder, ns=(0, 0))
        self._channel, far = protocol.channel()
        server = os.getpid()
        if kernel.fork() == 0:
            _live(far, folder, server)
        far.close()

    def look(self, pid: int, limits: Limits) -> str | None:
        """Return the limit that a child exceeds, `disk` or `threads`, or None. Raises Closed or OSError if the
        inspector has died."""
        return _REASONS[self._ask(pid, limits.disk_bytes, limits.threads)]

    def empty_folder(self) -> None:
        """Remove a child's files if the folder's modification time has changed. A child cannot reset this time."""
        if os.stat(self._folder).st_mtime_ns:
            self._ask(0, 0, 0)

    def _ask(self, *request: int) -> bytes:
        self._channel.send(_REQUEST.pack(*request))
        reply = self._channel.recv(1)
        if not reply:
            raise protocol.Closed
        return reply


def _live(channel: socket.socket, folder: str, server: int) -> NoReturn:
    """Run the inspector's process."""
    try:
        kernel.die_with_parent()
        os.closerange(3, channel.fileno())
        os.closerange(channel.fileno() + 1, 1 << 20)
        program = protocol.sealed(b"")
        memory = os.fstat(program).st_dev
        os.close(program)
        while os.getppid() == server and (request := channel.recv(_REQUEST.size)):
            pid, most_bytes, most_threads = _REQUEST.unpack(request)
            channel.send(_look(pid, most_bytes, most_threads, folder, memory) if pid else _empty(folder))
    finally:
        os._exit(1)


def _empty(folder: str) -> bytes:
    """Remove all files from the folder. Landlock only allows children to create plain files, so that there are no links
    or folders. An OSError ends the server."""
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
    os.utime(folder, ns=(0, 0))
    return _FINE


def _look(pid: int, most_bytes: int, most_threads: int, folder: str, memory: int) -> bytes:
    """Return the limit that a child exceeds. `memory`: device number of in-memory files, which children receive but
    cannot create."""
    with suppress(*_GONE):
        tasks = [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
        if len(tasks) > most_threads:
            return _THREADS
        sizes = _nameless(tasks, memory)
        if _in_folder(folder, most_bytes) + sum(sizes.values()) > most_bytes or _mapped(tasks, folder) - sizes.keys():
            return _DISK
    return _FINE


def _in_folder(folder: str, most_bytes: int) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count == MOST_FILES:
                return most_bytes + 1
            with suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _nameless(tasks: list[str], memory: int) -> dict[int, int]:
    """Return inode → size of the unnamed files that a child has open. All threads are examined, because a thread can
    have its own descriptor table, and the main thread can end before the others."""
    sizes = {}
    for task in tasks:
        with suppress(*_GONE):
            for name in os.listdir(f"{task}/fd"):
                with suppress(FileNotFoundError):
                    found = os.stat(f"{task}/fd/{name}")
                    if stat.S_ISREG(found.st_mode) and not found.st_nlink and found.st_dev != memory:
                        sizes[found.st_ino] = found.st_size
    return sizes


def _mapped(tasks: list[str], folder: str) -> set[int]:
    """Return the inodes of unnamed files from the folder that a child has mapped. A well-behaved program also has an
    open descriptor for each of these files."""
    within = os.fsencode(os.path.realpath(folder)) + b"/"
    for task in tasks:
        with suppress(*_GONE), open(f"{task}/maps", "rb") as maps:
            lines = maps.readlines()
            if lines:  # all threads have the same mappings
                gone = [line for line in lines if line.endswith(b" (deleted)\n") and within in line]
                return {int(line.split(maxsplit=5)[4]) for line in gone}
    return set()
