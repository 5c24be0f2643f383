"""The OpenAI and Hugging Face format: `{"messages": [{"role", "content"}, …], "tools": […]}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms.calls import read_tools
from thinkling.data.chat_forms.media import check_media, check_unlabelled
from thinkling.data.chat_forms.normal import BadRecord, Chat, Message, finished_chat
from thinkling.data.chat_forms.turns import read_turns


def read(record: Mapping[str, Any], cut_unanswered: bool = False, field: str = "messages") -> Chat:
    """Returns a record's conversation. Raises BadRecord if it is invalid."""
    check_media(record)
    check_unlabelled(record)
    if record.get(field) is None:
        raise BadRecord(f"no {field}", f"the record has {', '.join(map(str, record)) or 'no fields'}"[:200])
    messages = with_system(record, read_turns(record[field], field))
    return finished_chat(messages, read_tools(record), cut_unanswered)


def with_system(record: Mapping[str, Any], messages: list[Message]) -> list[Message]:
    """Returns the messages, preceded by a system message if the record has a `system` text."""
    system = record.get("system")
    if system is None or system == "":
        return messages
    if not isinstance(system, str):
        raise BadRecord("system is not text", type(system).__name__)
    return [*read_turns([{"role": "system", "content": system}], "system"), *messages]
