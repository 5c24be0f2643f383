"""Messages between a sandbox and its fork-server: four bytes of length, a JSON header, then byte strings."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

READY, FAILED = b"R", b"F"
"""First byte on a child's pipe of reports: it is locked in and starts the program; it could not lock itself in."""
_LENGTH = struct.Struct(">I")


class Closed(Exception):
    """The other end has gone."""


def send(channel: socket.socket, header: dict[str, Any], blobs: Sequence[bytes | bytearray] = ()) -> None:
    """Writes one message. OSError: the other end has gone, or does not read within the channel's timeout."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    channel.sendall(b"".join((_LENGTH.pack(len(text)), text, *blobs)))


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[bytes]]:
    """Reads one message. Closed: there is none; OSError (TimeoutError): none within the channel's timeout."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    header = json.loads(_exactly(channel, length))
    return header, [_exactly(channel, size) for size in header["blobs"]]


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = channel.recv(min(size, 1 << 20))
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
