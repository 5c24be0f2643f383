"""What a verifier says of a completion, and where in a completion the answer stands.

A verdict is not a reward. Only right and wrong become rewards; unverifiable, timeout and error leave the group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """`wrong` includes a completion without a readable answer and judged code past its own limits; `unverifiable`: the
    verifier or the reference cannot decide; `timeout`: the verifier's own deadline; `error`: the verifier failed."""

    RIGHT = "right"
    WRONG = "wrong"
    UNVERIFIABLE = "unverifiable"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """`tier`: the name of what decided; `detail`: one line for a person who audits it."""

    outcome: Outcome
    tier: str
    detail: str = ""


_TURN_START = "<|im_start|>assistant\n"
_ENDINGS = re.compile(r"(<\|im_end\|>|<\|endoftext\|>)\s*$")


def read_reply(completion: str) -> str | None:
    """What a model wrote in chat form after its thought and the last reply of a tool, lines kept.

    None where nothing is readable: nothing follows, a thought was opened and not ended, or a tool call is left without
    response."""
    text = completion
    for tag in ("</think>", "</tool_response>", _TURN_START):
        text = text.rpartition(tag)[2]
    text = _ENDINGS.sub("", text).strip()
    if not text or "<think>" in text or "<tool_call>" in text or "<|im_start|>" in text:
        return None
    return text


def read_answer(completion: str) -> str | None:
    """The same with white space made single spaces: the answer, where the reply is the answer and no more."""
    reply = read_reply(completion)
    return None if reply is None else " ".join(reply.split())
