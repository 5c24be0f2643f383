"""Conversations: messages in the Hugging Face chat form, checked, and as Parquet.

A message holds `role` (system, user, assistant, tool) and `content`, plain text; an assistant's may hold
`reasoning_content` and `tool_calls` (`[{"type": "function", "function": {"name", "arguments"}}]`). The template writes
the tags; text in the fields never becomes one (see chat_template).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.chat_template import Message
from thinkling.errors import UserError

ROLES = ("system", "user", "assistant", "tool")
_FIELDS = ("role", "content", "reasoning_content", "tool_calls")

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("messages", pa.list_(pa.struct([(name, pa.string()) for name in _FIELDS]))),
        ("source", pa.string()),
    ]
)
"""Columns of conversations Parquet. `tool_calls` is a JSON string; `problem_id` is null where no task made it."""


@dataclass(frozen=True)
class Conversation:
    """A row of conversations Parquet. `problem_id`: the problem of tasks that it answers, or None."""

    id: str
    messages: Sequence[Message]
    source: str
    problem_id: str | None = None


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages without empty optional fields. Raises UserError naming message and field where the form is wrong."""
    if not messages:
        raise UserError("conversation: no messages")
    kept = []
    for i, message in enumerate(messages):
        where = f"conversation: message {i}"
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"{where}: role is {role!r}; it is one of {', '.join(ROLES)}")
        if role == "system" and i > 0:
            raise UserError(f"{where}: a system message comes first or not at all")
        if not isinstance(content, str) and (content is not None or role != "assistant"):
            raise UserError(f"{where}: content is {type(content).__name__}; it is a string")
        if unknown := sorted(set(message) - set(_FIELDS)):
            raise UserError(f"{where}: unknown field {unknown[0]!r}; a message has {', '.join(_FIELDS)}")
        clean: dict[str, Any] = {"role": role, "content": content or ""}
        for name, kind in (("reasoning_content", str), ("tool_calls", list)):
            value = message.get(name)
            if value is None:
                continue
            if role != "assistant":
                raise UserError(f"{where}: {name} in a message of role {role}; only the assistant has it")
            if not isinstance(value, kind):
                raise UserError(f"{where}: {name} is {type(value).__name__}; it is a {kind.__name__}")
            clean[name] = [_checked_call(call, where) for call in value] if name == "tool_calls" else value
        kept.append(clean)
    return kept


def _checked_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UserError(f"{where}: a tool call has no function name")
    if not isinstance(function.get("arguments"), Mapping):
        raise UserError(f"{where}: the arguments of tool {function['name']!r} are not an object")
    return tool_call(function["name"], function["arguments"])


def tool_call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `tool_calls` in the Hugging Face form."""
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def write_conversations(path: Path, conversations: Iterable[Conversation], rows_per_group: int = 1024) -> int:
    """Writes conversations Parquet, one row group at a time; returns the number of rows.

    Raises UserError, naming the conversation, for messages out of form."""
    rows, count = iter(conversations), 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := [_row(conversation) for conversation in islice(rows, rows_per_group)]:
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
            count += len(group)
    return count


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Rows of conversations Parquet in order. Raises UserError naming the file where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in SCHEMA.names if name not in file.schema_arrow.names]:
                raise UserError(f"{path}: no column {missing[0]!r}; conversations have {', '.join(SCHEMA.names)}")
            for batch in file.iter_batches(columns=SCHEMA.names):
                for row in batch.to_pylist():
                    yield _conversation(row, path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error})") from error


def _row(conversation: Conversation) -> dict[str, Any]:
    try:
        messages = checked(conversation.messages)
    except UserError as error:
        raise UserError(f"{conversation.id}: {error}") from error
    for message in messages:
        if "tool_calls" in message:
            message["tool_calls"] = json.dumps(message["tool_calls"], ensure_ascii=False)
    return {
        "id": conversation.id,
        "problem_id": conversation.problem_id,
        "messages": messages,
        "source": conversation.source,
    }


def _conversation(row: dict[str, Any], path: Path) -> Conversation:
    try:
        messages = [_message(message) for message in row["messages"] or []]
        return Conversation(row["id"], checked(messages), row["source"], row["problem_id"])
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: conversation {row['id']}: {error}") from error


def _message(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("tool_calls") is not None:
        fields = {**fields, "tool_calls": json.loads(fields["tool_calls"])}
    return fields
