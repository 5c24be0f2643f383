"""Reads the tools that a record defines, and the calls in its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms.normal import (
    BadRecord,
    Message,
    check_json,
    check_text,
    from_json,
    is_empty,
    without_code,
)


def check_written(text: str, where: str) -> None:
    """Raises BadRecord if an assistant's text contains a call in Hermes tags.

    Text never becomes a special token, so the model would learn to spell the tags instead of making calls. Tags around
    other content, and tags in code, are treated as text.
    """
    if "<tool_call>" not in text:
        return
    for opened in without_code(text).split("<tool_call>")[1:]:
        written, closed, _ = opened.partition("</tool_call>")
        try:
            call = json.loads(written) if closed else None
        except (ValueError, RecursionError):
            continue
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            raise BadRecord("a tool call written as text", where)


def read_tools(record: Mapping[str, Any]) -> list[Message]:
    """Returns the tools that a record defines in its field `tools` or `functions`.

    The value is a list or its JSON text. Each tool is in OpenAI's format or a bare function.
    """
    given = [record[name] for name in ("tools", "functions") if not is_empty(record.get(name))]
    if len(given) > 1 and given[0] != given[1]:
        raise BadRecord("tools and functions differ")
    if not given:
        return []
    value = from_json(given[0], "tools are not JSON", "tools") if isinstance(given[0], str) else given[0]
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise BadRecord("tools are not a list", f"tools: {type(value).__name__}")
    return [_tool(entry, f"tools[{i}]") for i, entry in enumerate(value)]


def _tool(entry: Any, where: str) -> Message:
    if isinstance(entry, str):
        entry = from_json(entry, "tools are not JSON", where)
    if not isinstance(entry, Mapping):
        raise BadRecord("a tool without a name", where)
    if entry.get("type", "function") != "function":
        raise BadRecord("a tool that is not a function", where)
    function = entry.get("function")
    if not isinstance(function, Mapping):
        function = {name: value for name, value in entry.items() if name not in ("type", "function")}
    if not isinstance(name := function.get("name"), str) or not name:
        raise BadRecord("a tool without a name", where)
    check_json(function, where)
    return {"type": "function", "function": dict(function)}


def read_calls(value: Any, where: str) -> list[Message]:
    """Returns the calls of a message. The value is a call, a list of calls, or the JSON text of one of these."""
    if is_empty(value):
        return []
    if isinstance(value, str):
        value = from_json(value, "a tool call that is not JSON", where)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise BadRecord("a tool call without a name", where)
    return [_call(entry, where) for entry in value]


def _call(entry: Any, where: str) -> Message:
    if isinstance(entry, str):
        entry = from_json(entry, "a tool call that is not JSON", where)
    if not isinstance(entry, Mapping):
        raise BadRecord("a tool call without a name", where)
    if entry.get("type") not in (None, "function"):
        raise BadRecord("a tool call that is not of a function", where)
    function = entry["function"] if isinstance(entry.get("function"), Mapping) else entry
    if not isinstance(name := function.get("name"), str) or not name:
        raise BadRecord("a tool call without a name", where)
    check_text(name, where)
    call_id = read_id(entry.get("id"), where)
    named = {} if call_id is None else {"id": call_id}
    return {"type": "function", **named, "function": {"name": name, "arguments": _arguments(function, where)}}


def _arguments(function: Mapping[str, Any], where: str) -> dict[str, Any]:
    value = function.get("arguments")
    if value is None:
        value = function.get("parameters")
    if isinstance(value, str):
        value = from_json(value, "tool call arguments that are not JSON", where) if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRecord("tool call arguments that are not an object", f"{where}: {type(value).__name__}")
    check_json(value, where)
    return dict(value)


def read_id(value: Any, where: str) -> str | None:
    """Returns the id of a call. A number is converted to text, and an empty id to None."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRecord("a call id that is neither text nor number", where)
    check_json(value, where)
    check_text(text := str(value), where)
    return text
