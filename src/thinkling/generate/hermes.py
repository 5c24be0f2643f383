"""The Hermes format of tool calls and responses: JSON between tags, as written by Qwen's templates and by thinkling's
own template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from thinkling.data.reading import Call

OPENING, CLOSING = "<tool_call>", "</tool_call>"
DEEPEST = 64
"""Maximum nesting depth of a call's arguments. The depth is limited because templates render arguments recursively."""
Piece = tuple[bool, str]
"""A piece of a turn: whether the piece is a tag, and its text."""


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Returns a `<tool_call>` block without a trailing newline."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPENING}\n{call}\n{CLOSING}"


def response_text(result: str) -> str:
    """Returns a `<tool_response>` block without a trailing newline."""
    return f"<tool_response>\n{result}\n</tool_response>"


def read_call(body: str) -> Call | None:
    """Parses the text between `<tool_call>` and `</tool_call>`. Returns None unless the text is a JSON object with
    exactly `name` (string) and `arguments` (object)."""
    call = read_json(body)
    return as_call(call) if isinstance(call, dict) and set(call) == {"name", "arguments"} else None


def as_call(fields: Mapping[str, Any], arguments: str = "arguments") -> Call | None:
    """Converts a JSON object to a call. Returns None unless the name is a string, the arguments are an object, and a
    template can render the call: JSON may contain lone surrogates and be nested arbitrarily deeply."""
    name, given, call_id = fields.get("name"), fields.get(arguments), fields.get("id")
    if not isinstance(name, str) or not isinstance(given, dict) or not _can_be_written([name, given, call_id]):
        return None
    return Call(name, given, call_id if isinstance(call_id, str) else None)


def _can_be_written(value: Any, depth: int = 0) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return depth <= DEEPEST and all(_can_be_written(one, depth + 1) for one in inner)


def read_json(text: str) -> Any:
    """Parses a JSON text. Returns None if the text is invalid or contains NaN or an infinity."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def take_calls(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Call]]:
    """Separates the calls that can be parsed from the other pieces of a turn."""
    left: list[Piece] = []
    calls: list[Call] = []
    i = 0
    while i < len(pieces):
        closed = i + 2 < len(pieces) and pieces[i] == (True, OPENING) and pieces[i + 2] == (True, CLOSING)
        call = read_call(pieces[i + 1][1]) if closed and not pieces[i + 1][0] else None
        if call is None:
            left.append(pieces[i])
            i += 1
            continue
        calls.append(call)
        if left and not left[-1][0]:  # the newline before a call belongs to the call
            left[-1] = (False, left[-1][1].removesuffix("\n"))
        i += 3
    return left, calls


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
