"""A conversation → tokens that fit a row, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from thinkling.data.chat_template import EncodedChat
from thinkling.data.conversations import Conversation, is_trained_on
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.stages.sft.config import SftConfig

Outcome = Literal["kept", "overlong_truncated", "overlong_dropped", "without_loss", "unrenderable"]
"""What became of a conversation. The first two are trained on."""

Encode = Callable[[Conversation], EncodedChat]


@dataclass(frozen=True)
class Fitted:
    """A conversation as it is trained on, or as it is left out."""

    conversation: Conversation
    """What is left of it."""
    ids: np.ndarray
    """int32 (T,)."""
    loss: np.ndarray
    """bool (T,)."""
    outcome: Outcome
    turns_without_loss: int = 0
    """Assistant's turns in it that are not trained on."""
    detail: str = ""
    """Why it cannot be rendered."""

    @property
    def is_kept(self) -> bool:
        return self.outcome in ("kept", "overlong_truncated")


def encoder(renderer: Renderer) -> Encode:
    """Encodes conversations as the model reads them, their tools announced; UserError names the conversation."""

    def encode(conversation: Conversation) -> EncodedChat:
        try:
            return renderer.encoded(conversation.messages, list(conversation.tools) or None)
        except UserError as error:
            raise UserError(f"conversation {conversation.id!r} of {conversation.source}: {error}") from error

    return encode


def fit(conversation: Conversation, encode: Encode, config: SftConfig) -> Fitted:
    """Applies `overlong` and `unrenderable`.

    Raises UserError where one of them is `error` and the conversation is too long, or cannot be rendered.
    """
    try:
        whole = _encoded(conversation, encode)
    except UserError as error:
        if config.unrenderable == "error":
            raise
        nothing = np.empty(0, dtype=np.int32)
        return Fitted(conversation, nothing, nothing.astype(bool), "unrenderable", detail=str(error))
    if not whole.loss[1:].any():
        return replace(whole, outcome="without_loss")
    if len(whole.ids) <= config.sequence_length:
        return whole
    if config.overlong == "error":
        raise UserError(
            f"conversation {conversation.id!r} of {conversation.source} has {len(whole.ids):,} tokens, more than "
            f"sequence_length {config.sequence_length:,}; raise it, or set overlong to drop or truncate"
        )
    shorter = truncated(conversation, encode, config.sequence_length) if config.overlong == "truncate" else None
    return shorter or replace(whole, outcome="overlong_dropped")


def truncated(conversation: Conversation, encode: Encode, sequence_length: int) -> Fitted | None:
    """The start of a conversation that is too long, up to the end of a turn that is trained on; None where none fits.

    The next such turn would not fit. A start is encoded anew, since templates write the last round in another way than
    earlier ones.
    """
    messages = conversation.messages
    ends = [i + 1 for i, message in enumerate(messages) if is_trained_on(message)]
    ends = [end for end in ends if end < len(messages)]
    fitted: dict[int, Fitted | None] = {}

    def fits(number: int) -> bool:
        if number not in fitted:
            start = _encoded(replace(conversation, messages=messages[: ends[number]]), encode)
            fine = len(start.ids) <= sequence_length and start.loss[1:].any()
            fitted[number] = replace(start, outcome="overlong_truncated") if fine else None
        return fitted[number] is not None

    low, high = -1, len(ends)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if low < 0:
        # A longer start may be fewer tokens, where a template drops the reasoning of rounds before the last.
        low = next((number for number in reversed(range(len(ends))) if fits(number)), -1)
    return fitted[low] if low >= 0 else None


def _encoded(conversation: Conversation, encode: Encode) -> Fitted:
    encoded = encode(conversation)
    return Fitted(conversation, encoded.ids, encoded.loss, "kept", encoded.turns_without_loss)
