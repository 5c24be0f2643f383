import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.sandbox import protocol

TEXTS = st.text() | st.text(alphabet=st.characters(categories=["Cs"]), max_size=2)


@given(TEXTS, st.sampled_from(["main", "session", "judged", "tester"]))
@settings(max_examples=50)
def test_a_program_is_read_as_it_was_written(code: str, way: Any) -> None:
    files = {"a": b"\x00\xff", "ü": b"", "c": code.encode("utf-8", "replace")}
    for some in ({}, files):
        descriptor = protocol.write_program(protocol.Program(code, "mark", some, way))
        found = protocol.read_program(descriptor)
        os.close(descriptor)
        assert found == protocol.Program(code, "mark", some, way)


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=50)
def test_calls_are_read_as_they_were_written(codes: list[bytes]) -> None:
    read, write = os.pipe()
    os.write(write, b"".join(map(protocol.write_call, codes)))
    os.close(write)
    assert [protocol.read_call(read) for _ in codes] == codes
    with pytest.raises(protocol.Closed):
        protocol.read_call(read)
    os.close(read)


def test_a_sealed_file_cannot_be_changed() -> None:
    descriptor = protocol.sealed(b"content")
    assert os.read(descriptor, 100) == b"content"
    for change in (lambda: os.pwrite(descriptor, b"x", 0), lambda: os.ftruncate(descriptor, 3)):
        with pytest.raises(PermissionError):
            change()
    os.close(descriptor)


def test_messages_are_kept_apart_and_carry_descriptors() -> None:
    one, other = protocol.channel()
    with other:
        with one:
            read, write = os.pipe()
            protocol.send(one, b"first", [write])
            protocol.send(one, b"second")
            os.close(write)
            message, (taken,) = protocol.receive(other)
            assert message == b"first"
            os.write(taken, b"through")
            os.close(taken)
            assert os.read(read, 100) == b"through"
            assert os.read(read, 100) == b""
            os.close(read)
            assert protocol.receive(other) == (b"second", [])
            other.settimeout(0.01)
            with pytest.raises(TimeoutError):
                protocol.receive(other)
        with pytest.raises(protocol.Closed):
            protocol.receive(other)
        with pytest.raises(OSError, match="Broken pipe"):
            protocol.send(other, b"third")
