"""The Alpaca format: `{"instruction", "input", "output"}`, with optional `system` and `history` fields.

`history` is a list of rounds, `[[user, assistant], …]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms.calls import read_tools
from thinkling.data.chat_forms.media import check_media
from thinkling.data.chat_forms.messages import with_system
from thinkling.data.chat_forms.normal import BadRecord, Chat, Message, finished_chat, first_given, from_json, is_empty
from thinkling.data.chat_forms.turns import REASONING_FIELDS, assistant_turn, read_turns


def read(record: Mapping[str, Any], cut_unanswered: bool = False) -> Chat:
    """Returns a record's conversation. Raises BadRecord if it is invalid."""
    check_media(record)
    if not isinstance(output := record.get("output"), str):
        raise BadRecord("no output", f"output: {type(output).__name__}")
    answer = assistant_turn(output, "output", first_given(record, *REASONING_FIELDS))
    return finished_chat([*prompt(record), answer], read_tools(record), cut_unanswered)


def prompt(record: Mapping[str, Any]) -> list[Message]:
    """Returns the messages before the output. The input follows the instruction on a new line, as in LLaMA-Factory."""
    parts = []
    for name in ("instruction", "input"):
        if not isinstance(part := record.get(name), str | None):
            raise BadRecord("instruction or input is not text", f"{name}: {type(part).__name__}")
        parts += [part] if part else []
    if not parts:
        raise BadRecord("no instruction")
    asked = read_turns([{"role": "user", "content": "\n".join(parts)}], "instruction")
    return with_system(record, [*_history(record.get("history")), *asked])


def _history(value: Any) -> list[Message]:
    if isinstance(value, str) and value:
        value = from_json(value, "history is not a list of rounds", "history")
    if is_empty(value):
        return []
    if not isinstance(value, list):
        raise BadRecord("history is not a list of rounds", type(value).__name__)
    turns: list[Message] = []
    for i, round_ in enumerate(value):
        match round_:
            case [str() as asked, str() as answered]:
                turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            case _:
                raise BadRecord("history is not a list of rounds", f"history[{i}]")
    return read_turns(turns, "history")
