import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.sandbox import protocol


@given(st.dictionaries(st.text(), st.text() | st.integers(), max_size=3), st.lists(st.binary(), max_size=3))
@settings(max_examples=30)
def test_a_message_arrives(header: dict, blobs: list[bytes]) -> None:
    header.pop("blobs", None)
    one, other = socket.socketpair()
    with one, other:
        protocol.send(one, header, blobs)
        found, content = protocol.receive(other)
    assert {key: value for key, value in found.items() if key != "blobs"} == header
    assert content == blobs


def test_large_messages_and_the_end() -> None:
    one, other = socket.socketpair()
    with other:
        large = bytes(5 << 20)
        sender = threading.Thread(target=protocol.send, args=(one, {}, [large, b"1"]))
        sender.start()
        assert protocol.receive(other)[1] == [large, b"1"]
        sender.join()
        one.sendall(b"\0\0")
        one.close()
        with pytest.raises(protocol.Closed):
            protocol.receive(other)
