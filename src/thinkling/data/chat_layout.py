"""Locates each piece of a conversation (a text field or a call's argument) in the rendered text, and detects pieces
that the template drops."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinkling.data.chat_marks import anchor, take_anchors, without_marks
from thinkling.data.chat_rendering import CURE, ChatTemplate, Message
from thinkling.errors import UserError


@dataclass(frozen=True)
class Piece:
    """A non-blank text field or argument of the conversation."""

    field: str
    """`content`, `reasoning_content`, `tool_calls` or `tools`."""
    message: int
    """Index of the message that contains the text; -1 for a tool definition."""
    text: str
    name: str = ""
    """Name of the tool that is called or defined."""


@dataclass(frozen=True)
class Part:
    """The rendered text of a prefix of the messages."""

    text: str
    places: Mapping[int, int]
    """Number of a piece → position in the rendered text of the mark inserted in the middle of the piece."""


class Layout:
    """A rendered conversation with the position of every piece. The messages must already be fenced (chat_marks)."""

    def __init__(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        tools: Sequence[Message],
        text: str,
        prompts: bool = False,
    ) -> None:
        """Locates the pieces of the conversation in `text`, the whole rendered conversation.

        `prompts` specifies whether the text ends with a generation prompt. A piece has no position if a mark inside the
        piece would change other parts of the rendered text, which happens if the template inspects the piece.
        """
        self.template, self.text, self._prompts = template, text, prompts
        self._messages, self._tools = messages, tools
        self.pieces: list[Piece] = []
        self._walk(self._count)
        self.placed = frozenset(range(len(self.pieces)))
        whole = self._try(self.placed)
        if whole is None:
            self.placed = frozenset(n for n in self.placed if self._try(frozenset({n})) is not None)
            whole = self._try(self.placed)
        if whole is None:
            self.placed = frozenset()
        self.places: Mapping[int, int] = whole.places if whole else {}
        self._marked = self._walk(self._mark(self.placed))

    def part(self, count: int, add_generation_prompt: bool = False, more: Sequence[Message] = ()) -> Part | None:
        """Renders the first `count` messages followed by `more`. Returns None if the template rejects them."""
        messages, tools = self._marked
        try:
            return Part(*take_anchors(self.template.render([*messages[:count], *more], tools, add_generation_prompt)))
        except UserError:
            return None

    def latest(self, through: int, *parts: Part) -> int | None:
        """Returns the last piece of the messages up to and including `through` that occurs in all parts.

        The last piece is the one in the latest message, not the one at the latest position, because a template may move
        the system message to the last question.
        """
        found = [
            n for n in self.places if self.pieces[n].message <= through and all(n in part.places for part in parts)
        ]
        return max(found, key=lambda n: (self.pieces[n].message, self.places[n]), default=None)

    def of(self, message: int) -> list[int]:
        """Returns the positions of a message's pieces."""
        return [place for n, place in self.places.items() if self.pieces[n].message == message]

    def without_reasoning(self) -> list[int]:
        """Returns the assistant messages whose reasoning the template drops because later messages follow.

        Raises UserError, with the template and the field, if the template drops any other part of the conversation.
        """
        dropped = []
        for number, piece in enumerate(self.pieces):
            if self._is_there(number, piece, self._whole):
                continue
            if piece.field == "reasoning_content":
                ended = self.part(piece.message + 1)
                if ended is not None and self._is_there(number, piece, ended):
                    dropped.append(piece.message)
                    continue
            raise self._lost(piece)
        self._check_values()
        return dropped

    def check_written(self) -> None:
        """Raises UserError, with the template and the field, if the template drops anything other than reasoning."""
        for number, piece in enumerate(self.pieces):
            if piece.field != "reasoning_content" and not self._is_there(number, piece, self._whole):
                raise self._lost(piece)
        self._check_values()

    @property
    def _whole(self) -> Part:
        return Part(self.text, self.places)

    def _lost(self, piece: Piece) -> UserError:
        return UserError(f"chat template {self.template.name}: it does not write {_what(piece)}; {CURE}")

    def _is_there(self, number: int, piece: Piece, part: Part) -> bool:
        return number in part.places if number in self.placed else _contains(part.text, piece.text)

    def _check_values(self) -> None:
        """Checks that the text contains the JSON or Python spelling of all non-text arguments, which have no mark."""
        for i, message in enumerate(self._messages):
            for call in message.get("tool_calls") or ():
                for value in _scalars(call["function"]["arguments"]):
                    if not any(spelled in self.text for spelled in (json.dumps(value), str(value))):
                        raise self._lost(Piece("tool_calls", i, "", call["function"]["name"]))

    def _try(self, numbers: frozenset[int]) -> Part | None:
        """Renders the whole conversation with marks in these pieces. Returns None if the marks change its text."""
        messages, tools = self._walk(self._mark(numbers))
        try:
            text, places = take_anchors(self.template.render(messages, tools, self._prompts))
        except UserError:
            return None
        return Part(text, places) if text == self.text else None

    def _count(self, piece: Piece, after: str) -> str:
        self.pieces.append(piece)
        return piece.text

    def _mark(self, numbers: frozenset[int]) -> Callable[[Piece, str], str]:
        count = iter(range(len(self.pieces)))

        def mark(piece: Piece, after: str) -> str:
            number = next(count)
            return anchor(piece.text, number, after) if number in numbers else piece.text

        return mark

    def _walk(self, change: Callable[[Piece, str], str]) -> tuple[list[Message], list[Message]]:
        """Returns messages and tools with `change` applied to every piece, always in the same order."""

        def changed(field: str, message: int, text: Any, name: str = "", after: str = "") -> Any:
            return change(Piece(field, message, text, name), after) if isinstance(text, str) and text.strip() else text

        def argument(value: Any, message: int, name: str) -> Any:
            if isinstance(value, Mapping):
                return {key: argument(inner, message, name) for key, inner in value.items()}
            if isinstance(value, list):
                return [argument(inner, message, name) for inner in value]
            return changed("tool_calls", message, value, name)

        tools = []
        for tool in self._tools:
            function = tool.get("function", tool)
            named = {**function, "name": changed("tools", -1, function.get("name"), str(function.get("name")))}
            tools.append({**tool, "function": named} if "function" in tool else named)
        messages = []
        for i, message in enumerate(self._messages):
            new = dict(message)
            if "reasoning_content" in new:
                new["reasoning_content"] = changed("reasoning_content", i, new["reasoning_content"])
            after = "</think>" if new["role"] == "assistant" else ""
            if isinstance(new["content"], list):
                new["content"] = [{**part, "text": changed("content", i, part["text"])} for part in new["content"]]
            else:
                new["content"] = changed("content", i, new["content"], after=after)
            if new.get("tool_calls"):
                calls = []
                for call in new["tool_calls"]:
                    name = call["function"]["name"]
                    written = {"name": changed("tool_calls", i, name, name)}
                    written["arguments"] = argument(call["function"]["arguments"], i, name)
                    calls.append({**call, "function": written})
                new["tool_calls"] = calls
            messages.append(new)
        return messages, tools


def _what(piece: Piece) -> str:
    if piece.field == "tools":
        return f"the tool {without_marks(piece.name)!r} that is announced (`tools`)"
    if piece.field == "tool_calls":
        return f"the call of {without_marks(piece.name)!r} in message {piece.message} (`tool_calls`)"
    return f"`{piece.field}` of message {piece.message}"


def _contains(text: str, wanted: str) -> bool:
    """Returns whether `text` contains `wanted`, verbatim or escaped as in JSON, ignoring white space."""
    squeezed = _squeezed(text)
    return _squeezed(wanted) in squeezed or _squeezed(json.dumps(wanted, ensure_ascii=False)[1:-1]) in squeezed


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _scalars(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [scalar for inner in value.values() for scalar in _scalars(inner)]
    if isinstance(value, (list, tuple)):
        return [scalar for inner in value for scalar in _scalars(inner)]
    return [] if isinstance(value, str) else [value]
