"""The Hermes spelling of tool calls and responses: JSON between tags, as Qwen and our own template write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from thinkling.data.reading import Call

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_BLOCK = re.compile(r"\n?<tool_call>\n?(.*?)\n?</tool_call>", re.DOTALL)


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """`<tool_call>` block, without a newline after it."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPENING}\n{call}\n{CLOSING}"


def response_text(result: str) -> str:
    """`<tool_response>` block, without a newline after it."""
    return f"<tool_response>\n{result}\n</tool_response>"


def read_call(body: str) -> Call | None:
    """The call between `<tool_call>` and `</tool_call>`; None unless it is a JSON object of exactly `name` (string) and
    `arguments` (object)."""
    try:
        call = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return None
    name, arguments = call["name"], call["arguments"]
    return Call(name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def split_calls(text: str) -> tuple[str, list[Call]]:
    """The text without its readable calls, and those. What is no call stays in the text as it is."""
    calls: list[Call] = []

    def take(match: re.Match[str]) -> str:
        call = read_call(match.group(1))
        if call is None:
            return match.group()
        calls.append(call)
        return ""

    return _BLOCK.sub(take, text), calls


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
