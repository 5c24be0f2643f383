"""One training sample per round, for models whose template drops the reasoning of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thinkling.data.chat_template import Message


def rounds(messages: Sequence[Message]) -> list[list[dict[str, Any]]]:
    """The conversation up to the end of each round, in order, so that every thought is trained on: once more rounds
    follow, a template drops it. In each sample the assistant's turns of earlier rounds have `loss: False`; every turn
    carries loss once.

    A round begins with a user's message. The conversation comes back alone where only its last round has reasoning."""
    starts = [
        i
        for i, message in enumerate(messages)
        if message["role"] == "user" and i and messages[i - 1]["role"] in ("assistant", "tool")
    ]
    whole = [dict(message) for message in messages]
    if not any(message.get("reasoning_content") for message in messages[: starts[-1] if starts else 0]):
        return [whole]
    found = []
    for start, end in zip([0, *starts], [*starts, len(messages)], strict=True):
        earlier = [{**m, "loss": False} if m["role"] == "assistant" else m for m in whole[:start]]
        if any(m["role"] == "assistant" and m.get("loss") is not False for m in whole[start:end]):
            found.append([*earlier, *whole[start:end]])
    return found
