"""Preference pairs: `chosen` and `rejected`, with the preceding messages in any of the other formats.

The prompt may be `prompt` (text or messages), `messages` or `conversations`, or Alpaca's instruction and input.
Alternatively, `chosen` and `rejected` are whole conversations, and the prompt is their common start.
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
    """A record's pair. Raises BadRecord."""
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
    """Number of turns that two conversations share at the start. Assistant turns right before they diverge belong to
    the two replies."""
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
    """A prompt given in addition to whole conversations must match theirs."""
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
