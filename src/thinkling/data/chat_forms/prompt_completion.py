"""TRL's prompt-completion format.

The prompt and the completion are each plain text or a list of messages. Only the completion carries loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms.calls import read_tools
from thinkling.data.chat_forms.media import check_media, check_unlabelled
from thinkling.data.chat_forms.messages import with_system
from thinkling.data.chat_forms.normal import BadRecord, Chat, Message, finished_chat, first_given, is_empty
from thinkling.data.chat_forms.turns import REASONING_FIELDS, assistant_turn, read_turns


def read(record: Mapping[str, Any], cut_unanswered: bool = False) -> Chat:
    """Returns a record's conversation. Raises BadRecord if it is invalid."""
    check_media(record)
    check_unlabelled(record)
    completion = reply(record, "completion", first_given(record, *REASONING_FIELDS))
    context = [_untrained(message) for message in prompt(record)]
    return finished_chat([*context, *completion], read_tools(record), cut_unanswered)


def prompt(record: Mapping[str, Any]) -> list[Message]:
    """Returns the turns before the completion. Plain text is converted to a user turn."""
    value = record.get("prompt")
    if value is None:
        raise BadRecord("no prompt")
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    return with_system(record, read_turns(turns, "prompt"))


def reply(record: Mapping[str, Any], field: str, reasoning: object = None) -> list[Message]:
    """Returns the turns of a completion, or of one side of a pair.

    Plain text is converted to an assistant turn. The value can also be a single message or a list of messages.
    """
    value = record.get(field)
    if value is None:
        raise BadRecord(f"no {field}")
    if isinstance(value, str):
        return [assistant_turn(value, field, reasoning)]
    if not is_empty(reasoning):
        raise BadRecord("reasoning beside a completion of messages", field)
    return read_turns([value] if isinstance(value, Mapping) else value, field)


def _untrained(message: Message) -> Message:
    return {**message, "loss": False} if message["role"] == "assistant" else message
