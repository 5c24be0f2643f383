"""Converts a conversation to tokens that fit into a row, or to a reason why it cannot be trained on."""

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
"""Outcome of fitting a conversation into a row. Conversations with one of the first two outcomes are trained on."""

Encode = Callable[[Conversation], EncodedChat]


@dataclass(frozen=True)
class Fitted:
    """A conversation with the tokens that are trained on, or with the reason why it is excluded."""

    conversation: Conversation
    """The conversation, without the turns that were removed."""
    ids: np.ndarray
    """int32 (T,)."""
    loss: np.ndarray
    """bool (T,)."""
    outcome: Outcome
    turns_without_loss: int = 0
    """Number of assistant turns that are not trained on."""
    detail: str = ""
    """Reason why the conversation cannot be rendered."""

    @property
    def is_kept(self) -> bool:
        return self.outcome in ("kept", "overlong_truncated")


def encoder(renderer: Renderer) -> Encode:
    """Returns a function that encodes conversations, including their tools, as the model reads them. UserErrors of the
    function include the id of the conversation."""

    def encode(conversation: Conversation) -> EncodedChat:
        try:
            return renderer.encoded(conversation.messages, list(conversation.tools) or None)
        except UserError as error:
            raise UserError(f"conversation {conversation.id!r} of {conversation.source}: {error}") from error

    return encode


def fit(conversation: Conversation, encode: Encode, config: SftConfig) -> Fitted:
    """Encodes a conversation and applies the options `overlong` and `unrenderable`.

    Raises UserError if the conversation is too long or cannot be rendered and the corresponding option is `error`.
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
            f"sequence_length {config.sequence_length:,}; raise sequence_length, or set overlong to drop or truncate"
        )
    shorter = truncated(conversation, encode, config.sequence_length) if config.overlong == "truncate" else None
    return shorter or replace(whole, outcome="overlong_dropped")


def truncated(conversation: Conversation, encode: Encode, sequence_length: int) -> Fitted | None:
    """Returns the longest beginning of an overlong conversation that fits into a row and ends with a turn that is
    trained on. Returns None if no beginning fits.

    Each candidate is encoded from scratch, because templates render the last round differently from earlier rounds.
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
        # A longer beginning can have fewer tokens if the template drops the reasoning of all but the last round.
        low = next((number for number in reversed(range(len(ends))) if fits(number)), -1)
    return fitted[low] if low >= 0 else None


def _encoded(conversation: Conversation, encode: Encode) -> Fitted:
    encoded = encode(conversation)
    return Fitted(conversation, encoded.ids, encoded.loss, "kept", encoded.turns_without_loss)
