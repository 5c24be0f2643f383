"""Messages between a sandbox and its fork-server, over a UNIX socket that preserves message boundaries.

A program and its output never pass through the server, whose memory is inherited by every later child. Requests carry
descriptors instead, which the child inherits: standard input, the three pipes it writes to, and a sealed file with the
program. If the program is tested there are four more: the tester's end of a socket between the two, the program's end,
the tester's report pipe, and a sealed file with the tests, which the program's process closes unread. A request is the
limits in JSON, or a command for the running child: STOP, and for a session PAUSE and RESUME; a reply is ENDED and why
the child was stopped.
The server reads and writes as little as possible, because touching pages after a fork causes page faults.
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
"""First byte on a child's report pipe: it is confined and starts the program; it could not confine itself."""
NOTHING = "nothing"
"""A server's first message: what the machine lacks."""
STOP, PAUSE, RESUME = b"stop", b"pause", b"resume"
ENDED = struct.Struct("<idd")
"""Wait status, seconds, CPU seconds."""
DESCRIPTORS = 9
"""Maximum number."""
_LONGEST = 1 << 16
_SIZES = struct.Struct("<4Q")
_CALL = struct.Struct("<I")


class Closed(Exception):
    """The other end is gone."""


def channel() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends a message. OSError: the other end is gone."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([message], rights)


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """A message and its descriptors. Closed: the channel has ended; TimeoutError: none arrived within its timeout."""
    descriptors = array.array("i")
    message, rights, _, _ = end.recvmsg(_LONGEST, socket.CMSG_SPACE(DESCRIPTORS * descriptors.itemsize))
    if not message:
        raise Closed
    for _, _, data in rights:
        descriptors.frombytes(data)
    return message, list(descriptors)


class Program(NamedTuple):
    """What a child runs: its source, the mark of its reports, files for its folder, and how to run it.

    `session`: there is no source yet; pieces of code arrive one after another on standard input (see write_call).
    `judged`: serves the requests of its tester. `tester`: the source is a test suite.
    """

    code: str
    nonce: str
    files: Mapping[str, bytes]
    way: Literal["main", "session", "judged", "tester"] = "main"


def write_program(program: Program) -> int:
    """A descriptor of a sealed in-memory file. Files are written as JSON only if there are any: a child parses them,
    and every page that it touches is copied."""
    way = program.way.encode()
    sizes = (
        json.dumps({name: len(content) for name, content in program.files.items()}).encode() if program.files else b""
    )
    code, nonce = program.code.encode("utf-8", "surrogatepass"), program.nonce.encode()
    head = _SIZES.pack(len(nonce), len(code), len(way), len(sizes))
    return sealed(b"".join((head, nonce, code, way, sizes, *program.files.values())))


def read_program(descriptor: int) -> Program:
    """Inverse of write_program."""
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
    """A piece of code as a session's child reads it: its length, then the code."""
    return _CALL.pack(len(code)) + code


def read_call(descriptor: int) -> bytes:
    """The next piece of code. Closed: there are no more."""
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
    """A descriptor of an unnamed, immutable file."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
