"""The formats in which model families write tool calls. A model's format is detected from its chat template.

The template renders a known call, and the first format that parses the call back is the model's format. Only text that
can be parsed as a call is treated as a call; everything else in a turn remains text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thinkling.data.reading import Call
from thinkling.generate import hermes
from thinkling.generate.hermes import Piece, as_call, read_json

PYTHON_TAG, END_OF_MESSAGE = "<|python_tag|>", "<|eom_id|>"
TOOL_CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
PROBE = Call("probe_tool", {"probe_argument": "1"}, "aBcDe0123")
"""The call that templates are asked to render. Mistral's templates only accept ids of nine letters and digits."""


@dataclass(frozen=True)
class CallFormat:
    """A format of tool calls. `take` separates the calls that can be parsed from the other pieces of a turn; the `tags`
    are never part of an answer."""

    name: str
    tags: tuple[str, ...]
    take: Callable[[Sequence[Piece]], tuple[list[Piece], list[Call]]]
    pauses: bool = False
    """Whether generation pauses at the end of a call. If False, or if the last of the `tags` is not a token of the
    vocabulary, the model finishes its turn before all calls in the turn are answered."""
    stops: tuple[str, ...] = ()
    """Tokens that end a turn with calls, in addition to the tokens that end any turn."""

    def reads(self, text: str) -> bool:
        """Whether this format can parse the probe call in a turn rendered by a template."""
        cut = re.split("(" + "|".join(map(re.escape, self.tags)) + ")", text)
        calls = self.take([(bool(i % 2), piece) for i, piece in enumerate(cut) if piece])[1]
        return [(call.name, call.arguments) for call in calls] == [(PROBE.name, PROBE.arguments)]


def _take_llama(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Call]]:
    """Parses a turn that is a single call: `{"name": …, "parameters": {…}}`, optionally after `<|python_tag|>`."""
    body = pieces[1:] if pieces[:1] == [(True, PYTHON_TAG)] else pieces
    fields = read_json(body[0][1].strip()) if len(body) == 1 and not body[0][0] else None
    if not isinstance(fields, dict):
        return list(pieces), []
    # Some models copy `type` from the list of tools, or write "arguments" (the name in other formats) instead of
    # "parameters".
    if fields.get("type") == "function":
        fields = {name: value for name, value in fields.items() if name != "type"}
    arguments = next((name for name in ("parameters", "arguments") if set(fields) == {"name", name}), None)
    call = None if arguments is None else as_call(fields, arguments)
    return (list(pieces), []) if call is None else ([], [call])


def _take_mistral(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Call]]:
    """Parses `[TOOL_CALLS]` followed by a list of JSON objects or, in newer models, by a name, `[ARGS]` and a JSON
    object."""
    left: list[Piece] = []
    calls: list[Call] = []
    i = 0
    while i < len(pieces):
        found, length = _mistral_calls(pieces[i + 1 :]) if pieces[i] == (True, TOOL_CALLS) else ([], 0)
        if found:
            calls += found
            i += 1 + length
        else:
            left.append(pieces[i])
            i += 1
    return left, calls


def _mistral_calls(pieces: Sequence[Piece]) -> tuple[list[Call], int]:
    """Returns the calls after the tag and the number of pieces that the calls span. If the text after the tag cannot be
    parsed, there are no calls."""
    texts = [(text.strip() if not is_tag else text) for is_tag, text in pieces[:5]]
    tags = [is_tag for is_tag, _ in pieces[:5]]
    if tags[:1] == [False] and texts[0].startswith("["):
        rows = read_json(texts[0])
        calls = [_with_valid_id(row) for row in rows] if isinstance(rows, list) else []
        return ([], 0) if None in calls else ([call for call in calls if call is not None], 1)
    if tags[:3] == [False, True, False] and texts[1] == ARGS:
        name, call_id, arguments, length = texts[0], None, texts[2], 3
    elif tags == [False, True, False, True, False] and (texts[1], texts[3]) == (CALL_ID, ARGS):
        name, call_id, arguments, length = texts[0], texts[2], texts[4], 5
    else:
        return [], 0
    call = _with_valid_id({"name": name, "arguments": read_json(arguments), "id": call_id})
    return ([], 0) if call is None else ([call], length)


def _with_valid_id(fields: Any) -> Call | None:
    """Converts `fields` to a call, dropping an id that Mistral's templates would reject. Returns None if `fields` is
    not a call."""
    if not isinstance(fields, dict) or not set(fields) <= {"name", "arguments", "id"}:
        return None
    call = as_call(fields)
    if call is None or call.id is None or _MISTRAL_ID.fullmatch(call.id):
        return call
    return Call(call.name, call.arguments)


HERMES = CallFormat("hermes", (hermes.OPENING, hermes.CLOSING), hermes.take_calls, pauses=True)
LLAMA = CallFormat("llama3", (PYTHON_TAG,), _take_llama, stops=(END_OF_MESSAGE,))
MISTRAL = CallFormat("mistral", (TOOL_CALLS, CALL_ID, ARGS), _take_mistral)
FORMATS = (HERMES, MISTRAL, LLAMA)


def format_of(turn: str) -> CallFormat | None:
    """Returns the format in which a template rendered the probe call; None if no format can parse the turn."""
    return next((one for one in FORMATS if one.reads(turn)), None)
