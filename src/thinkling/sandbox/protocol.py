"""Messages between a sandbox and its fork-server, over a UNIX socket that preserves message boundaries.

A program and its output never pass through the server, because every later child inherits the server's memory. Instead,
requests carry descriptors, which the child inherits: standard input, the three pipes to which it writes, and a sealed
file with the program. If the program is tested, there are four more: the tester's end and the program's end of a socket
between them, the tester's report pipe, and a sealed file with the tests, which the program's process closes unread.

A request is either the limits in JSON or a command for the running child, which is STOP or, in a session, PAUSE or
RESUME. A reply consists of ENDED and the reason why the child was stopped. The server reads and writes as little as
possible, because touching pages after a fork causes page faults.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

READY, FAILED = b"R", b"F"
"""First byte on a child's report pipe. READY: the child is confined and starts the program; FAILED: the child could not
confine itself."""
NOTHING = "nothing"
"""First message of a server if no feature is missing. Otherwise, the first message is a description of the missing
feature."""
STOP, PAUSE, RESUME = b"stop", b"pause", b"resume"
ENDED = struct.Struct("<idd")
"""Format of a reply: wait status, wall-clock seconds, CPU seconds."""
DESCRIPTORS = 9
"""Maximum number of descriptors in a message."""
_LONGEST = 1 << 16
_SIZES = struct.Struct("<4Q")
_CALL = struct.Struct("<I")


class Closed(Exception):
    """Raised if the other end of a channel has been closed."""


def channel() -> tuple[socket.socket, socket.socket]:
    """Create a channel and return its two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message. Raises OSError if the other end has been closed."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([message], rights)


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors. Raises Closed if the other end has been closed, and TimeoutError if no
    message arrives within the channel's timeout."""
    descriptors = array.array("i")
    message, rights, _, _ = end.recvmsg(_LONGEST, socket.CMSG_SPACE(DESCRIPTORS * descriptors.itemsize))
    if not message:
        raise Closed
    for _, _, data in rights:
        descriptors.frombytes(data)
    return message, list(descriptors)


class Program(NamedTuple):
    """A program for a child: source code, the mark for reports, files for the private folder, and how to run the
    program.

    Values of `way`: `main` runs the source as a script; `session` has no source and runs pieces of code that arrive on
    standard input (see write_call); `judged` serves the requests of its tester; `tester` runs a test suite.
    """

    code: str
    nonce: str
    files: Mapping[str, bytes]
    way: Literal["main", "session", "judged", "tester"] = "main"


def write_program(program: Program) -> int:
    """Write a program to a sealed in-memory file and return the descriptor. The sizes of files are only written if
    there are files, because the child would parse them, and every page that a child touches is copied."""
    way = program.way.encode()
    sizes = (
        json.dumps({name: len(content) for name, content in program.files.items()}).encode() if program.files else b""
    )
    code, nonce = program.code.encode("utf-8", "surrogatepass"), program.nonce.encode()
    head = _SIZES.pack(len(nonce), len(code), len(way), len(sizes))
    return sealed(b"".join((head, nonce, code, way, sizes, *program.files.values())))


def read_program(descriptor: int) -> Program:
    """Read a program written by `write_program`."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    parts, at = [], _SIZES.size
    for size in _SIZES.unpack_from(content):
        parts.append(content[at : at + size])
        at += size
    nonce, code, way, sizes = parts
    files = {}
    for name, size in (json.loads(sizes) if sizes else {}).items():
        files[name] = content[at : at + size]
        at += size
    return Program(code.decode("utf-8", "surrogatepass"), nonce.decode(), files, way.decode())  # type: ignore[arg-type]


def write_call(code: bytes) -> bytes:
    """Encode a piece of code for a session's child: the length, followed by the code."""
    return _CALL.pack(len(code)) + code


def read_call(descriptor: int) -> bytes:
    """Read the next piece of code. Raises Closed if there are no more."""
    (size,) = _CALL.unpack(_read_exactly(descriptor, _CALL.size))
    return _read_exactly(descriptor, size)


def _read_exactly(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = os.read(descriptor, size - len(content))
        if not part:
            raise Closed
        content += part
    return content


def sealed(content: bytes) -> int:
    """Return a descriptor of an unnamed, immutable in-memory file."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
