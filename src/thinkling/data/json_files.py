"""Reads JSON files with many records, one record at a time.

A file contains an array, an object with a list of records, or JSON Lines. The end of each record is found by counting
brackets outside strings, and only the text up to that point is parsed. An invalid record therefore does not affect any
other record, and memory holds a single record, regardless of the size of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from thinkling.data.readers import (
    BOM,
    MAX_RECORD_BYTES,
    TOO_LONG,
    RawRecord,
    opened,
    parse_record,
    read_jsonl,
    readable,
)
from thinkling.errors import UserError

RECORD_KEYS = ("data", "records", "rows", "examples", "instances", "items", "train")
"""Keys under which the single object of a file is expected to contain the list of records."""

_CHUNK = 1 << 20
_SHOWN = 100_000
_PLAIN = re.compile(rb'[^"\[\]{},:]*+')
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""Matches the inside of a string up to its closing quote, or up to a backslash at the end of the chunk."""
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")

Token = tuple[bytes, bytes]
"""Type of a piece of text, and the piece itself. The type of a bracket, comma, colon or opening quote is the character.
The type `s` is a part of the contents of a string, including the closing quote if the part reaches it. All other pieces
have an empty type."""


def read_json(path: str | Path, records_key: str | None = None, limit: int = MAX_RECORD_BYTES) -> Iterator[RawRecord]:
    """Yields the records of a `.json` file, which may be compressed.

    `records_key` is the key under which the file's single object contains the list of records. If None, the keys in
    `RECORD_KEYS` are tried; an object with none of these keys is a single record. `limit` is the maximum number of
    bytes per record.

    Raises UserError if the key is missing, if `records_key` is None and several keys match, or if the file does not
    start with a JSON object or list.
    """
    path = Path(path)
    with readable(path):
        found = path.stat()
    shape = _shape(path, found.st_size, found.st_mtime_ns)
    if records_key is not None and records_key not in shape.lists:
        found = (
            f"keys with lists: {', '.join(shape.lists) or 'none'}"
            if shape.start == b"{"
            else "the file is not a JSON object"
        )
        raise UserError(f"{path}: no list of records under the key {records_key!r} ({found}); change records_key")
    if shape.start == b"{" and shape.followed and not shape.spread:
        yield from read_jsonl(path, limit)
        return
    known = [key for key in shape.lists if key in RECORD_KEYS]
    if records_key is None and not shape.followed and len(known) > 1:
        raise UserError(f"{path}: several lists of records, under {', '.join(known)}; choose one with records_key")
    key = records_key or next(iter(known), None)
    with readable(path), opened(path) as stream:
        tokens = _tokens(stream)
        if shape.start == b"[" or (key is not None and not shape.followed):
            _enter(tokens, key if shape.start == b"{" else None)
            texts = _elements(tokens, limit, inside=True)
        else:
            texts = _elements(tokens, limit, inside=False)
        for number, (text, error) in enumerate(texts, start=1):
            origin = f"{path}:{number}"
            yield RawRecord({}, origin, error, text.decode(errors="replace")) if error else parse_record(text, origin)
        if shape.start == b"[" and (rest := b"".join(piece for _, piece in tokens)[:_SHOWN].strip()):
            yield RawRecord({}, f"{path}: after its list", "text after the list", rest.decode(errors="replace"))


@dataclass
class _Shape:
    """The structure of a JSON file, determined from its first value."""

    start: bytes
    spread: bool = False
    """Whether the first value spans several lines."""
    followed: bool = False
    """Whether another value follows the first value."""
    lists: list[str] = field(default_factory=list)
    """Keys whose values are lists of objects, if the first value is an object."""


@lru_cache(maxsize=64)
def _shape(path: Path, size: int, changed: int) -> _Shape:
    """Determines the structure of a file.

    The result is cached by the file's size and modification time, because determining the structure requires reading
    the whole file.
    """
    del size, changed
    with readable(path), opened(path) as stream:
        tokens = _tokens(stream)
        start = next((mark or piece.strip()[:1] for mark, piece in tokens if piece.strip()), b"")
        if start == b"[" or not start:
            return _Shape(start)
        if start != b"{":
            raise UserError(
                f"{path}: does not start with a JSON object or list; if the file is JSON Lines, rename it to .jsonl"
            )
        shape = _Shape(start)
        for key, first in _entries(tokens, shape):
            if first in (b"[{", b"[]"):
                shape.lists.append(key)
        shape.followed = any(piece.strip() for _, piece in tokens)
        return shape


def _entries(tokens: Iterator[Token], shape: _Shape) -> Iterator[tuple[str, bytes]]:
    """Yields each key of an object whose opening brace has been read, with the first two token types of its value."""
    depth, key, in_key, marks = 1, b"", True, b""
    for mark, piece in tokens:
        shape.spread = shape.spread or (mark == b"" and b"\n" in piece)
        if mark in _CLOSING:
            depth -= 1
        if depth == 0 or (depth == 1 and mark == b","):
            if key:
                yield _text_of(key), marks[:2]
            if depth == 0:
                return
            key, in_key, marks = b"", True, b""
        elif depth == 1 and in_key:
            in_key = mark != b":"
            key += piece if mark in (b'"', b"s") and len(key) < _SHOWN else b""
        elif len(marks) < 2 and (mark or piece.strip()):
            marks += mark or b"."
        if mark in _OPENING:
            depth += 1


def _text_of(key: bytes) -> str:
    record = parse_record(b"{" + key + b": 0}", "")
    return next(iter(record.fields), key.decode(errors="replace"))


def _enter(tokens: Iterator[Token], key: str | None) -> None:
    """Reads past the bracket that opens the list of records.

    If `key` is None, this is the first bracket, otherwise the bracket under this key of the file's object.
    """
    depth, last = 0, b""
    for mark, piece in tokens:
        if mark == b"[" and (key is None or (depth == 1 and _text_of(last) == key)):
            return
        if depth == 1 and mark in (b'"', b","):
            last = mark if mark == b'"' else b""
        elif depth == 1 and mark == b"s":
            last += piece
        depth += (mark in _OPENING) - (mark in _CLOSING)


@dataclass
class _Piece:
    """Collects the text of a record while it is read, truncated at the limit."""

    limit: int
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= self.limit:
            self.parts.append(piece)

    def take(self) -> tuple[bytes, str]:
        """Returns the text and its error, if any, and starts a new record."""
        text, size = b"".join(self.parts).strip(), self.size
        self.parts, self.size = [], 0
        return (text[:_SHOWN], TOO_LONG) if size > self.limit else (text, "")


def _elements(tokens: Iterator[Token], limit: int, inside: bool) -> Iterator[tuple[bytes, str]]:
    """Yields the texts of the elements of a list, each with its error, if any.

    If `inside`, the opening bracket of the list has been read; otherwise the elements are consecutive top-level values.
    If the list is not closed, the rest of the text is yielded as the last element.
    """
    depth, piece = 0, _Piece(limit)
    for mark, text in tokens:
        if depth == 0 and inside and mark in (b",", b"]"):
            element = piece.take()
            if element[0] or element[1] or mark == b",":
                yield element
            if mark == b"]":
                return
            continue
        depth += (mark in _OPENING) - (mark in _CLOSING)
        piece.add(text)
        if depth <= 0 and not inside and mark in _CLOSING:
            yield piece.take()
            depth = 0
    element = piece.take()
    if element[0] or element[1]:
        yield element


def _tokens(stream: BinaryIO) -> Iterator[Token]:
    """Splits a JSON text into pieces, which together form the text without its byte order mark."""
    chunk, in_string = stream.read(_CHUNK + len(BOM)).removeprefix(BOM), False
    while chunk:
        at, carried = 0, b""
        while at < len(chunk):
            if in_string:
                end = _end(_STRING, chunk, at)
                if end < len(chunk) and chunk[end : end + 1] == b"\\":  # the escaped character is in the next chunk
                    carried = b"\\"
                    if end > at:
                        yield b"s", chunk[at:end]
                    break
                in_string = end == len(chunk)
                end = min(end + 1, len(chunk))
                mark = b"s"
            elif (end := _end(_PLAIN, chunk, at)) > at:
                mark = b""
            else:
                end, mark = at + 1, chunk[at : at + 1]
                in_string = mark == b'"'
            yield mark, chunk[at:end]
            at = end
        more = stream.read(_CHUNK)
        if not more and carried:
            yield b"s", carried
        chunk = carried + more if more else b""


def _end(pattern: re.Pattern[bytes], chunk: bytes, at: int) -> int:
    found = pattern.match(chunk, at)
    assert found  # both patterns match the empty text
    return found.end()
