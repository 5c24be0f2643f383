"""The common form to which records of every format are converted, and the checks that a record must pass.

The readers of this package are pure functions of a record's fields. They import neither numpy nor pyarrow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Message = dict[str, Any]

MAX_DEPTH = 64
"""Maximum nesting depth of a tool's schema or a call's arguments, which templates render recursively."""
MAX_BITS = 4096
"""Maximum number of bits of an integer. Python neither parses nor prints decimal integers of more than 4,300 digits."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


class BadRecord(Exception):
    """Raised for a record that cannot be used.

    `reason` is short and identical for all records with the same problem. `detail` is the location in the record.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Chat(NamedTuple):
    """A conversation without an id: messages as described in `data.conversations`, and tool definitions."""

    messages: list[Message]
    tools: list[Message]


class Pair(NamedTuple):
    """Two continuations of `messages`. The messages do not end with an assistant turn."""

    messages: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Message]


Read = Chat | Pair


def is_empty(value: object) -> bool:
    """Returns whether a field is absent, null, or an empty string, list or object."""
    return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


def first_given(record: Mapping[str, Any], *names: str) -> Any:
    """Returns the value of the first of these fields that is present and not null, or None if there is no such
    field."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def from_json(text: str, reason: str, detail: str) -> Any:
    """Parses JSON text. Raises BadRecord with the given reason if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRecord(reason, detail) from None


def without_code(text: str) -> str:
    """Returns the text without code blocks and code spans, because tags in code are only quoted and have no effect."""
    return _CODE.sub("", text)


def check_text(text: str, detail: str) -> None:
    """Raises BadRecord for text that cannot be encoded, because JSON can contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRecord("text with half a surrogate pair", detail) from None


def check_json(value: Any, detail: str, depth: int = 0) -> None:
    """Raises BadRecord unless the value can be written as JSON that any JSON parser can read."""
    if depth > MAX_DEPTH:
        raise BadRecord("nested too deeply", detail)
    if isinstance(value, str):
        check_text(value, detail)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise BadRecord("a value that is not JSON", f"{detail}: a key of type {type(key).__name__}")
            check_text(key, detail)
            check_json(inner, detail, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_json(inner, detail, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadRecord("a value that is not JSON", f"{detail}: {value}")
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise BadRecord("a value that is not JSON", f"{detail}: an integer of {value.bit_length()} bits")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise BadRecord("a value that is not JSON", f"{detail}: {type(value).__name__}")


def finished_chat(messages: list[Message], tools: list[Message], cut_unanswered: bool) -> Chat:
    """Returns the conversation. Raises BadRecord if it is invalid or has no assistant turn to train on.

    With `cut_unanswered`, turns after the last assistant turn are removed; otherwise a record with such turns is
    rejected.
    """
    if not messages:
        raise BadRecord("no messages")
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRecord("no assistant turn")
    while cut_unanswered and messages[-1]["role"] != "assistant":
        messages = messages[:-1]
    check_turns(messages)
    if (role := messages[-1]["role"]) != "assistant":
        raise BadRecord(f"ends with a {role} turn")
    if not any(message["role"] == "assistant" and message.get("loss", True) for message in messages):
        raise BadRecord("no assistant turn is trained on")
    return Chat(messages, tools)


def finished_pair(
    messages: list[Message], chosen: list[Message], rejected: list[Message], tools: list[Message]
) -> Pair:
    """Returns the pair, whose shared messages carry no loss. Raises BadRecord if the pair is invalid."""
    if not messages:
        raise BadRecord("no prompt")
    if messages[-1]["role"] == "assistant":
        raise BadRecord("prompt ends with an assistant turn")
    messages = [{key: value for key, value in message.items() if key != "loss"} for message in messages]
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side:
            raise BadRecord("no assistant turn", name)
        if wrong := {message["role"] for message in side} - {"assistant", "tool"}:
            raise BadRecord("chosen or rejected goes beyond the assistant's turn", f"{name}: {min(wrong)}")
        if side[0]["role"] != "assistant" or side[-1]["role"] != "assistant":
            raise BadRecord("chosen or rejected starts or ends with a tool turn", name)
        check_turns([*messages, *side], name)
    if chosen == rejected:
        raise BadRecord("chosen and rejected are equal")
    return Pair(messages, chosen, rejected, tools)


def check_turns(messages: Sequence[Message], of: str = "messages") -> None:
    """Raises BadRecord if a turn is empty or out of order in a way that no template accepts."""
    waiting: dict[str | None, int] = {}  # number of calls without a result so far, by id
    for i, message in enumerate(messages):
        role, where = message["role"], f"{of}[{i}]"
        if role == "system" and i > 0:
            doubled = any(before["role"] == "system" for before in messages[:i])
            raise BadRecord("two system messages" if doubled else "system message after the first turn", where)
        if role == "assistant":
            calls = message.get("tool_calls", [])
            if not calls and not message["content"].strip():
                raise BadRecord("empty assistant turn", where)
            waiting = {}
            for call in calls:
                waiting[call.get("id")] = waiting.get(call.get("id"), 0) + 1
        elif role == "tool":
            _answer(waiting, message.get("tool_call_id"), where)
        else:
            waiting = {}


def _answer(waiting: dict[str | None, int], call_id: str | None, where: str) -> None:
    """Marks a call as answered: the call with this id, or any unanswered call if the result or the calls have no id.

    Raises BadRecord if there is no such call.
    """
    if not waiting:
        raise BadRecord("tool result without a call", where)
    if call_id is not None and call_id not in waiting and None not in waiting:
        raise BadRecord("tool result for an unknown call", f"{where}: {call_id[:80]!r}")
    answered = call_id if call_id in waiting else next(iter(waiting))
    waiting[answered] -= 1
    if not waiting[answered]:
        del waiting[answered]
