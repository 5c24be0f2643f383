"""Validates conversations in the Hugging Face chat format and stores them as Parquet.

A message has a `role` (system, user, assistant or tool) and `content`, which is plain text. An assistant message may
have `reasoning_content`, `tool_calls` (`[{"type": "function", "id", "function": {"name", "arguments"}}]`, with an
optional id and an object as arguments) and `loss`, which is False if the message is not trained on. A tool message may
have `tool_call_id` and `name`. Only the template writes tags; text in the fields never becomes a tag (see
chat_template).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.chat_template import Message
from thinkling.errors import UserError

ROLES = ("system", "user", "assistant", "tool")
ROWS_PER_GROUP = 1024
"""Number of Parquet rows held in memory at a time."""
_FIELDS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "loss")
_OPTIONAL = {
    "reasoning_content": ("assistant", str),
    "tool_calls": ("assistant", list),
    "loss": ("assistant", bool),
    "tool_call_id": ("tool", str),
    "name": ("tool", str),
}
"""Optional message field → the role whose messages may have the field, and the field's type."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem_id", pa.string()),
        (
            "messages",
            pa.list_(pa.struct([(name, pa.bool_() if name == "loss" else pa.string()) for name in _FIELDS])),
        ),
        ("tools", pa.string()),
        ("source", pa.string()),
    ]
)
"""Columns of a conversations Parquet file. `tool_calls` and `tools` are JSON strings. `problem_id` and `tools` may be
null."""


@dataclass(frozen=True)
class Conversation:
    """A row of a conversations Parquet file."""

    id: str
    messages: Sequence[Message]
    source: str
    problem_id: str | None = None
    """Id of the problem that the conversation answers, if any."""
    tools: Sequence[Mapping[str, Any]] = ()
    """The available tools, in the form of a chat template's `tools` list: `{"type": "function", "function": …}`."""


@dataclass(frozen=True)
class PreferencePair:
    """A conversation with a preferred and a rejected continuation."""

    id: str
    messages: Sequence[Message]
    """The shared context, which does not end with an assistant message."""
    chosen: Sequence[Message]
    """The assistant's turns of the preferred continuation, with tool responses in between if tools are called."""
    rejected: Sequence[Message]
    source: str
    tools: Sequence[Mapping[str, Any]] = ()


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns the messages without empty optional fields.

    Raises UserError, with the message and the field, if a message is invalid.
    """
    if not messages:
        raise UserError("conversation: no messages")
    kept = []
    for i, message in enumerate(messages):
        where = f"conversation: message {i}"
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"{where}: role is {role!r}; it must be one of {', '.join(ROLES)}")
        if role == "system" and i > 0:
            raise UserError(f"{where}: a system message must come first")
        if not isinstance(content, str) and (content is not None or role != "assistant"):
            raise UserError(f"{where}: content is {type(content).__name__}; it must be a string")
        if unknown := sorted(set(message) - set(_FIELDS)):
            raise UserError(f"{where}: unknown field {unknown[0]!r}; a message has {', '.join(_FIELDS)}")
        clean: dict[str, Any] = {"role": role, "content": content or ""}
        for name, (of_role, kind) in _OPTIONAL.items():
            value = message.get(name)
            if value is None:
                continue
            if role != of_role:
                raise UserError(f"{where}: {name} in a message with role {role}; only role {of_role} may have it")
            if not isinstance(value, kind):
                raise UserError(f"{where}: {name} is {type(value).__name__}; it must be a {kind.__name__}")
            clean[name] = [_checked_call(call, where) for call in value] if name == "tool_calls" else value
        kept.append(clean)
    return kept


def _checked_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UserError(f"{where}: a tool call has no function name")
    if not isinstance(function.get("arguments"), Mapping):
        raise UserError(f"{where}: the arguments of tool {function['name']!r} are not an object")
    if not isinstance(call_id := call.get("id"), str | None):
        raise UserError(f"{where}: tool call {function['name']!r}: id is {type(call_id).__name__}; it must be a str")
    return tool_call(function["name"], function["arguments"], call_id)


def tool_call(name: str, arguments: Mapping[str, Any], call_id: str | None = None) -> dict[str, Any]:
    """Returns an entry of `tool_calls` in the Hugging Face format."""
    named = {} if call_id is None else {"id": call_id}
    return {"type": "function", **named, "function": {"name": name, "arguments": dict(arguments)}}


def asking(question: str, system: str = "") -> list[dict[str, Any]]:
    """Returns the messages that ask a question: an optional system message and a user message."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": question}]


def rounds(conversation: Conversation) -> Iterator[Conversation]:
    """Yields one conversation per round, which ends with the turns of that round.

    Assistant turns of earlier rounds are not trained on. A new round starts at each user message that follows a message
    with a different role. Rounds without a turn that is trained on are omitted. A conversation with a single round is
    yielded unchanged.
    """
    messages = conversation.messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages))
    starts = [
        i
        for i in range(first + 1, len(messages))
        if messages[i]["role"] == "user" and messages[i - 1]["role"] != "user"
    ]
    if not starts:
        yield conversation
        return
    for number, (start, stop) in enumerate(itertools.pairwise([0, *starts, len(messages)]), 1):
        own = messages[start:stop]
        if any(is_trained_on(message) for message in own):
            before = [{**m, "loss": False} if m["role"] == "assistant" else m for m in messages[:start]]
            yield replace(conversation, id=f"{conversation.id}-round{number}", messages=[*before, *own])


def is_trained_on(message: Message) -> bool:
    """Returns whether a message is an assistant turn that carries loss."""
    return message["role"] == "assistant" and message.get("loss") is not False


def write_conversations(path: Path, conversations: Iterable[Conversation], rows_per_group: int = ROWS_PER_GROUP) -> int:
    """Writes conversations to a Parquet file, one row group at a time, and returns the number of rows.

    Raises UserError, with the conversation's id, if a conversation has invalid messages.
    """
    rows, count = iter(conversations), 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := [_row(conversation) for conversation in islice(rows, rows_per_group)]:
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
            count += len(group)
    return count


class ConversationsWriter:
    """Context manager that writes conversations to a Parquet file incrementally.

    If no conversation is added, no file is created.
    """

    def __init__(self, path: Path, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self._path, self._partial = path, path.with_name(path.name + ".tmp")
        self._most, self._group = rows_per_group, list[dict[str, Any]]()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ConversationsWriter:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is None and self._group:
            self._flush()
        if self._writer is None:
            return
        self._writer.close()
        if raised[0] is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()

    def add(self, conversation: Conversation) -> None:
        """Appends a conversation. Raises UserError, with the conversation's id, if its messages are invalid."""
        self._group.append(_row(conversation))
        if len(self._group) == self._most:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._group, schema=SCHEMA))
        self._group = []


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yields the rows of a conversations Parquet file in order. Raises UserError if the file cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in SCHEMA.names if name not in file.schema_arrow.names]:
                raise UserError(
                    f"{path}: no column {missing[0]!r}; use a file with the columns {', '.join(SCHEMA.names)}"
                )
            for batch in file.iter_batches(ROWS_PER_GROUP, columns=SCHEMA.names):
                for row in batch.to_pylist():
                    yield _conversation(row, path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error}); restore or replace the file") from error


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
        "tools": json.dumps(list(conversation.tools), ensure_ascii=False) if conversation.tools else None,
        "source": conversation.source,
    }


def _conversation(row: dict[str, Any], path: Path) -> Conversation:
    try:
        messages = [_message(message) for message in row["messages"] or []]
        tools = json.loads(row["tools"]) if row["tools"] is not None else ()
        return Conversation(row["id"], checked(messages), row["source"], row["problem_id"], tools)
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: conversation {row['id']}: {error}") from error


def _message(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("tool_calls") is not None:
        fields = {**fields, "tool_calls": json.loads(fields["tool_calls"])}
    return fields
