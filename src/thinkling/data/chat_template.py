"""Converts conversations to tokens with thinkling's ChatML template (chatml) or with a model's own template
(chat_rendering).

The text on which a model is trained is marked by `{% generation %}` blocks, as in transformers. If a template has no
such blocks, this text is inferred from the rendered conversation (loss_spans). No part of a conversation is dropped
silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np

from thinkling.data.chat_layout import Layout
from thinkling.data.chat_marks import (
    LOSS_OFF,
    LOSS_ON,
    Encoder,
    encode_marked,
    fence,
    special_spellings,
    well_fenced,
    without_marks,
)
from thinkling.data.chat_rendering import ChatTemplate, Message, load_chat_template, read_chat_template
from thinkling.data.chat_spellings import forms
from thinkling.data.chatml import CHATML, OURS, ours_for
from thinkling.data.loss_spans import find_turns
from thinkling.errors import UserError

__all__ = [
    "CHATML",
    "OURS",
    "ChatTemplate",
    "EncodedChat",
    "Encoder",
    "Message",
    "encode_chat",
    "encode_prompt",
    "load_chat_template",
    "ours_for",
    "read_chat_template",
    "special_spellings",
]
T = TypeVar("T")
_NOTHING = re.compile(r"(?!)")
_SPAN = re.compile(f"{LOSS_ON}(.*?){LOSS_OFF}", re.DOTALL)


@dataclass(frozen=True)
class EncodedChat:
    """A conversation as tokens."""

    ids: np.ndarray
    """Token ids, int32 (T,)."""
    loss: np.ndarray
    """Loss mask, bool (T,): True for text written by the assistant, including the token that ends its turn."""
    turns_without_loss: int = 0
    """Number of assistant turns whose reasoning the template drops because later rounds follow, or whose `loss` is
    False."""


def encode_chat(
    template: ChatTemplate, messages: Sequence[Message], tokenizer: Encoder, tools: Sequence[Message] | None = None
) -> EncodedChat:
    """Converts a conversation to tokens.

    Raises UserError, with the template's name, if the template cannot render the conversation or drops part of it, or
    if the assistant's text cannot be identified.
    """
    spellings = special_spellings(tokenizer)

    def attempt(fenced: list[Message], announced: list[Message], text: str) -> EncodedChat:
        marked, turns = _with_loss(template, fenced, announced, text, spellings)
        return EncodedChat(*encode_marked(marked, tokenizer), turns)

    return _first_form(template, messages, list(tools or ()), spellings, attempt)


def encode_prompt(
    template: ChatTemplate, messages: Sequence[Message], tokenizer: Encoder, tools: Sequence[Message] | None = None
) -> np.ndarray:
    """Returns the token ids of a prompt, int32 (T,), up to the point at which the assistant starts to write.

    The template may drop the reasoning of earlier turns. Raises UserError, with the template's name, if the template
    cannot render the messages or drops anything else.
    """
    spellings = special_spellings(tokenizer)

    def attempt(fenced: list[Message], announced: list[Message], text: str) -> np.ndarray:
        if template.source != CHATML:
            Layout(template, fenced, announced, text, prompts=True).check_written()
        return encode_marked(text, tokenizer)[0]

    return _first_form(template, messages, list(tools or ()), spellings, attempt, True)


def _first_form(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: list[Message],
    spellings: re.Pattern[str],
    attempt: Callable[[list[Message], list[Message], str], T],
    add_generation_prompt: bool = False,
) -> T:
    """Returns the result of `attempt` for the first form of the conversation that the template renders and `attempt`
    accepts.

    If there is no such form, raises the first error of `attempt`, or the first rendering error if no form was rendered.
    """
    refused: list[UserError] = []
    rejected: list[UserError] = []
    for form in forms(template, messages):
        try:
            rendered = _rendered(template, form, tools, spellings, add_generation_prompt)
        except UserError as error:
            refused.append(error)
            continue
        try:
            return attempt(*rendered)
        except UserError as error:
            rejected.append(error)
    raise [*rejected, *refused][0]


def _rendered(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Message],
    spellings: re.Pattern[str],
    add_generation_prompt: bool = False,
) -> tuple[list[Message], list[Message], str]:
    """Returns the fenced messages, the fenced tools and the rendered text.

    Raises UserError if fences change how the template treats a message, because the template then interprets message
    text as markup.
    """
    fenced, announced = fence(messages, spellings), fence(tools, spellings)
    text = template.render(fenced, announced, add_generation_prompt)
    if template.source == CHATML or (fenced, announced) == (list(messages), list(tools)):
        return fenced, announced, text
    bare = template.render(fence(messages, _NOTHING), fence(tools, _NOTHING), add_generation_prompt)
    if not well_fenced(text, spellings) or without_marks(text) != without_marks(bare):
        spelled = chain.from_iterable(
            (f"message {i} spells {match.group()!r}" for match in spellings.finditer(str(message.get("content"))))
            for i, message in enumerate(messages)
        )
        raise UserError(
            f"chat template {template.name}: {next(spelled, 'a message spells a special token')}, which the template "
            "takes for markup of its own; take it out of the text, or set `chat: {template: thinkling}`"
        )
    return fenced, announced, text


def _with_loss(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Message],
    text: str,
    spellings: re.Pattern[str],
) -> tuple[str, int]:
    """Returns the text with loss marks around the assistant's text, and the number of turns without loss."""
    unloved = {i for i, message in enumerate(messages) if message.get("loss") is False}
    if template.source == CHATML and not unloved and not _may_drop(messages):  # CHATML drops nothing in this case
        return text, 0
    layout = Layout(template, messages, tools, text)
    unloved.update(layout.without_reasoning())
    if template.has_generation_marks:
        return _without(unloved, layout, messages), len(unloved)
    for turn in reversed(find_turns(layout, messages, spellings)):
        written = text[turn.start : turn.end] + turn.missing
        if turn.message not in unloved:
            written = f"{LOSS_ON}{written}{LOSS_OFF}"
        text = text[: turn.start] + written + text[turn.end :]
    return text, len(unloved)


def _may_drop(messages: Sequence[Message]) -> bool:
    """Returns whether any message before the last user message has reasoning."""
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return any(message.get("reasoning_content") for message in messages[: max(last, 0)])


def _without(unloved: set[int], layout: Layout, messages: Sequence[Message]) -> str:
    """Returns the layout's text without the loss marks of these messages.

    If there are as many marked spans as assistant turns, spans and turns correspond in order. Otherwise a span belongs
    to the message of the last piece before the end of the span, or to the next assistant message if the message of that
    piece has a different role.
    """
    if not unloved:
        return layout.text
    assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]

    in_order = iter(assistants) if len(_SPAN.findall(layout.text)) == len(assistants) else None

    def replaced(span: re.Match[str]) -> str:
        if in_order is not None:
            return span.group(1) if next(in_order) in unloved else span.group()
        before = [n for n, place in layout.places.items() if place < span.end()]
        last = max(before, key=lambda n: layout.places[n], default=None)
        said = -1 if last is None else layout.pieces[last].message
        owner = next((i for i in assistants if i >= said), assistants[-1])
        return span.group(1) if owner in unloved else span.group()

    return _SPAN.sub(replaced, layout.text)
