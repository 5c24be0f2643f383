"""Preference pairs: `chosen` and `rejected` replies, with the preceding messages in any of the other formats.

The prompt is in `prompt` (text or messages), `messages` or `conversations`, or in Alpaca's instruction and input.
Alternatively, `chosen` and `rejected` are whole conversations, and the prompt is the start that they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms import alpaca, prompt_completion
from thinkling.data.chat_forms.calls import read_tools
from thinkling.data.chat_forms.media import check_media
from thinkling.data.chat_forms.messages import with_system
from thinkling.data.chat_forms.normal import BadRecord, Message, Pair, finished_pair
from thinkling.data.chat_forms.turns import read_turns


def read(record: Mapping[str, Any], cut_unanswered: bool = False) -> Pair:
    """Returns a record's pair. Raises BadRecord if it is invalid."""
    check_media(record)
    chosen, rejected = (prompt_completion.reply(record, side) for side in ("chosen", "rejected"))
    if any(side and side[0]["role"] in ("system", "user") for side in (chosen, rejected)):
        shared = _shared(chosen, rejected)
        _check_prompt(record, chosen[:shared])
        before = with_system(record, chosen[:shared])
        return finished_pair(before, chosen[shared:], rejected[shared:], read_tools(record))
    return finished_pair(_before(record), chosen, rejected, read_tools(record))


def _before(record: Mapping[str, Any]) -> list[Message]:
    for field in ("messages", "conversations"):
        if record.get(field) is not None:
            return with_system(record, read_turns(record[field], field))
    if record.get("prompt") is None and "instruction" in record:
        return alpaca.prompt(record)
    return prompt_completion.prompt(record)


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Returns the number of turns in the prompt that two conversations share.

    Identical assistant turns right before the conversations diverge belong to the replies, not to the prompt.
    """
    n = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if n is None:
        if len(chosen) == len(rejected):
            raise BadRecord("chosen and rejected are equal")
        n = min(len(chosen), len(rejected))
    while n and chosen[n - 1]["role"] == "assistant":
        n -= 1
    if not n:
        raise BadRecord("chosen and rejected share no prompt")
    return n


def _check_prompt(record: Mapping[str, Any], shared: list[Message]) -> None:
    """Raises BadRecord if the record has a prompt that does not match the start of the two conversations."""
    value: Any = record.get("prompt")
    if value is None:
        return
    if isinstance(value, str):
        agrees = any(message["content"].strip() == value.strip() for message in shared if message["role"] == "user")
    else:
        turns = read_turns(value, "prompt")
        agrees = turns == shared[: len(turns)]
    if not agrees:
        raise BadRecord("chosen and rejected do not start with the prompt")
