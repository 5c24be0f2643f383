"""Locates the assistant's text in a rendered conversation, for templates that do not mark this text themselves.

Each turn is located separately, because a template may render a turn differently if later turns follow. A turn starts
where the rendered text diverges from the prompt for this turn. It ends with the token at which the model would have
stopped. To find this token, the conversation is rendered up to this turn and with further turns: the token is the last
special token in the prefix that the two texts share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from thinkling.data.chat_layout import Layout, Part
from thinkling.data.chat_marks import ESC, written_by_template
from thinkling.data.chat_rendering import REASONING_TAGS, ChatTemplate, Message
from thinkling.errors import UserError

_OPENING = re.compile("|".join(re.escape(opening) for opening, _ in REASONING_TAGS))
_LONGEST = 256
"""Upper bound on the length of a special token."""


@dataclass(frozen=True)
class Turn:
    """An assistant turn."""

    message: int
    start: int
    end: int
    """Position after the token that ends the turn."""
    missing: str = ""
    """The token that ends the turn, if the template omits it after the last turn."""


def find_turns(layout: Layout, messages: Sequence[Message], spellings: re.Pattern[str]) -> list[Turn]:
    """Returns the assistant's turns in order. Raises UserError if a turn cannot be identified."""
    special = written_by_template(spellings)
    found: list[Turn] = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _start(layout, i, special)
        turn = None if start is None else _turn(layout, messages, i, start, special)
        if turn is None or not _is_sound(layout, turn, found[-1].end if found else 0):
            raise UserError(
                f"chat template {layout.template.name}: cannot tell which text of message {i} the assistant wrote, up "
                "to a token that ends its turn; put {% generation %} … {% endgeneration %} around it in the template, "
                "or set `chat: {template: thinkling}`"
            )
        found.append(turn)
    return found


def _start(layout: Layout, i: int, special: re.Pattern[str]) -> int | None:
    """Returns the position at which the text diverges from the prompt that ends before message `i`."""
    whole, asked, prompted = Part(layout.text, layout.places), layout.part(i), layout.part(i, True)
    if asked is None or prompted is None:
        return _after_header(layout, i, special)
    header = len(prompted.text) - _shared(asked.text, prompted.text, special)
    last = layout.latest(i - 1, prompted)
    tail, prompt = _tail(whole, last), _tail(prompted, last)
    shared = _shared(tail, prompt, special)
    if shared < len(prompt):  # the prompt opens or closes reasoning, but this turn does not
        opening = _OPENING.search(prompt, len(prompt) - header, shared)
        shared = opening.start() if opening else shared
        if shared <= len(prompt) - header:
            return _after_header(layout, i, special)
    usual = _header(layout.template, special)
    # After a tool result, a template may write a header that it omits from the prompt.
    written = shared + len(usual) if usual and tail.startswith(usual, shared) else shared
    return len(layout.text) - len(tail) + written


def _after_header(layout: Layout, i: int, special: re.Pattern[str]) -> int | None:
    """Returns the position after the header of an assistant turn, or None if there is no header.

    The header is between the preceding messages and the text of the turn.
    """
    header = _header(layout.template, special)
    before = max((place for k in range(-1, i) for place in layout.of(k)), default=0)
    behind = min(layout.of(i), default=len(layout.text))
    at = layout.text.rfind(header, before, behind) if header else -1
    return None if at < 0 else at + len(header)


def _turn(layout: Layout, messages: Sequence[Message], i: int, start: int, special: re.Pattern[str]) -> Turn | None:
    """Returns the turn from `start` to the token that ends it, or None if there is no such token."""
    whole = Part(layout.text, layout.places)
    ended = layout.part(i + 1)
    is_last = i == len(messages) - 1
    continued = _continued(layout, messages, i) if is_last else whole
    if ended is None:
        return None
    parts = [part for part in (ended, continued) if part is not None]
    last = layout.latest(i, *parts)
    tail = _tail(whole, last)
    offset = len(layout.text) - len(tail)
    goes_on = _tail(continued, last) if continued is not None else _tail(ended, last)
    shared = max(_shared(_tail(ended, last), goes_on, special), start - offset)
    usual = _usual_stop(layout.template, special)
    stops = [match.end() for match in special.finditer(tail, 0, shared) if match.start() >= start - offset]
    if stops and usual and not _tail(ended, last)[shared:].lstrip().startswith(usual):
        return Turn(i, start, offset + stops[-1])
    if (stop := _next(tail, shared, special)) is not None:
        return Turn(i, start, offset + stop.end())
    if is_last and (stop := _next(goes_on, shared, special)) is not None:
        return Turn(i, start, len(layout.text), stop.group())
    if not is_last and messages[i + 1]["role"] in ("assistant", "tool"):  # belongs to the same turn
        return Turn(i, start, offset + shared)
    return None


def _is_sound(layout: Layout, turn: Turn, previous: int) -> bool:
    """Returns whether the turn contains all text of its message and no text of other messages."""
    inside = [n for n, place in layout.places.items() if turn.start <= place < turn.end]
    own = layout.of(turn.message)
    return (
        previous <= turn.start <= turn.end
        and all(layout.pieces[n].message == turn.message for n in inside)
        and len(inside) == len(own)
    )


def _continued(layout: Layout, messages: Sequence[Message], i: int) -> Part | None:
    """Renders the conversation followed by results of the calls in message `i`, or else by a user message.

    Returns None if the template rejects both continuations.
    """
    calls = messages[i].get("tool_calls") or ()
    answers = [
        {"role": "tool", "content": "x", "name": call["function"]["name"], "tool_call_id": call.get("id", "")}
        for call in calls
    ]
    user = {"role": "user", "content": "x"}
    tried = (layout.part(len(messages), more=more) for more in ([answers] if answers else []) + [[user]])
    return next((part for part in tried if part is not None), None)


def _tail(part: Part, piece: int | None) -> str:
    return part.text if piece is None else part.text[part.places[piece] :]


def _next(text: str, start: int, special: re.Pattern[str]) -> re.Match[str] | None:
    """Returns the match of the special token that follows `start` with only white space in between, or None."""
    found = special.search(text, start)
    return None if found is None or text[start : found.start()].strip() else found


def _shared(a: str, b: str, special: re.Pattern[str]) -> int:
    """Returns the length of the common prefix of `a` and `b`, which never splits a special token or mark."""
    length, beyond = 0, min(len(a), len(b)) + 1
    while beyond - length > 1:  # comparing slices is far faster than comparing characters
        middle = (length + beyond) // 2
        if a[length:middle] == b[length:middle]:
            length = middle
        else:
            beyond = middle
    for text in (a, b):
        near = special.finditer(text, max(0, length - _LONGEST), length + _LONGEST)
        length = min(length, next((match.start() for match in near if match.start() < length < match.end()), length))
    return length - 1 if length and a[length - 1] == ESC else length


@lru_cache(maxsize=16)
def header_of(template: ChatTemplate, special: re.Pattern[str]) -> str:
    """Returns the header of an assistant turn after a user turn; empty if the template adds no header or fails."""
    for content in ("x", [{"type": "text", "text": "x"}]):  # vision models require the second form
        user = [{"role": "user", "content": content}]
        try:
            asked, prompted = template.render(user), template.render(user, add_generation_prompt=True)
        except UserError:
            continue
        return prompted[_shared(asked, prompted, special) :]
    return ""


def _header(template: ChatTemplate, special: re.Pattern[str]) -> str:
    """Returns the header; empty if it contains no special token by which it could be located."""
    header = header_of(template, special)
    return header if special.search(header) else ""


@lru_cache(maxsize=16)
def _usual_stop(template: ChatTemplate, special: re.Pattern[str]) -> str:
    """Returns the special token after the last answer of a conversation.

    The result is empty if a turn is ended only by the token of the next role.
    """
    try:
        text = template.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": "answer"}])
    except UserError:
        return "?"
    found = special.search(text.rpartition("answer")[2])
    return found.group() if found else ""
