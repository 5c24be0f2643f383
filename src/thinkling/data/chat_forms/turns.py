"""Converts turns with OpenAI's fields (role, content, …), ShareGPT's fields (from, value), or a mix, to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from thinkling.data.chat_forms.calls import check_written, read_calls, read_id
from thinkling.data.chat_forms.normal import BadRecord, Message, check_text, first_given, from_json, is_empty
from thinkling.data.chat_forms.reasoning import split_reasoning

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "tool_response", "function_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "function_call"),
}
"""Spelling of a role in a file → standard role. The content of a turn with the role `function_call` is a call or a list
of calls."""

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
LOSS_FIELDS = ("loss", "loss_weight", "loss_mask", "weight", "train", "training")
"""Fields in which 1 or true means that the turn is trained on. `mask` is excluded, because it has the opposite meaning
in some data sets."""
_UNREAD = ("image", "images", "audio", "audios", "video", "videos", "refusal", "tools", "mask", "train_detail")
"""Fields that affect training but cannot be represented in a message. Unknown fields that are not in this list are
treated as metadata."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("reasoning", "thinking")


class _Content(NamedTuple):
    text: str = ""
    reasoning: str = ""
    calls: tuple[Message, ...] = ()


def read_turns(value: Any, where: str = "messages") -> list[Message]:
    """Returns the messages of a list of turns, which may be given as JSON text.

    A separate turn for a call (ShareGPT's `function_call`) is merged into an assistant turn directly before it.
    """
    if isinstance(value, str):
        value = from_json(value, "messages are not JSON", where)
    if not isinstance(value, list):
        raise BadRecord("messages are not a list", f"{where}: {type(value).__name__}")
    messages: list[Message] = []
    names: dict[str, str] = {}
    for i, turn in enumerate(value):
        place = f"{where}[{i}]"
        if not isinstance(turn, Mapping):
            raise BadRecord("a message is not an object", f"{place}: {type(turn).__name__}")
        role = _role(turn, place)
        message = _message(turn, role, place)
        last = messages[-1] if messages else {}
        if role == "function_call" and last.get("role") == "assistant" and last.get("loss") == message.get("loss"):
            last["tool_calls"] = [*last.get("tool_calls", []), *message["tool_calls"]]
        else:
            messages.append(message)
        _check_name(turn, message["role"], names, place)
    return messages


def assistant_turn(text: str, where: str, reasoning: object = None) -> Message:
    """Returns an assistant turn that consists of text, which may start with reasoning."""
    return _message({"content": text, "reasoning_content": reasoning}, "assistant", where)


def _role(turn: Mapping[str, Any], where: str) -> str:
    spelled = first_given(turn, "role", "from")
    if spelled is None:
        raise BadRecord("a message without a role", f"{where}: it has {', '.join(map(str, turn)) or 'no fields'}"[:200])
    role = ROLES.get(spelled.lower()) if isinstance(spelled, str) else None
    if role is None:
        raise BadRecord("unknown role", f"{where}: {spelled!r}"[:200])
    return role


def _message(turn: Mapping[str, Any], role: str, where: str) -> Message:
    for name in _UNREAD:
        if not is_empty(turn.get(name)):
            raise BadRecord(f"a message with the field {name}, which is not read", where)
    value = first_given(turn, "content", "value")
    loss = _loss(turn, role, where)
    if role == "function_call":
        if not (calls := read_calls(value, where)):
            raise BadRecord("empty assistant turn", where)
        return {"role": "assistant", "content": "", "tool_calls": calls, **loss}
    content = _content(value, where)
    check_text(content.text, where)
    if role == "assistant":
        return {**_assistant(turn, content, where), **loss}
    if content.reasoning or content.calls or not is_empty(first_given(turn, "tool_calls", "function_call")):
        raise BadRecord("reasoning or a tool call outside the assistant's turns", where)
    if value is None:
        raise BadRecord("a message without content", where)
    if role != "tool":
        return {"role": role, "content": content.text}
    call_id, name = read_id(turn.get("tool_call_id"), where), read_id(turn.get("name"), where)
    known = {key: found for key, found in (("tool_call_id", call_id), ("name", name)) if found is not None}
    return {"role": "tool", "content": content.text, **known}


def _assistant(turn: Mapping[str, Any], content: _Content, where: str) -> Message:
    told = [content.reasoning, *(_plain(turn[name], where) for name in REASONING_FIELDS if turn.get(name) is not None)]
    inline, text = split_reasoning(content.text, where)
    check_written(text, where)
    found = {reasoning.strip(): reasoning for reasoning in (inline, *told) if reasoning.strip()}
    if len(found) > 1:
        raise BadRecord("two different reasonings in a message", where)
    calls = [read_calls(turn.get(name), where) for name in ("tool_calls", "function_call")]
    calls = [made for made in (list(content.calls), *calls) if made]
    if len(calls) > 1:
        raise BadRecord("tool calls in two fields of a message", where)
    message: Message = {"role": "assistant", "content": text}
    for reasoning in found.values():
        check_text(reasoning, where)
        message["reasoning_content"] = reasoning
    return {**message, "tool_calls": calls[0]} if calls else message


def _content(value: Any, where: str) -> _Content:
    if value is None or isinstance(value, str):
        return _Content(value or "")
    if not isinstance(value, list):
        raise BadRecord("content is neither text nor a list of parts", f"{where}: {type(value).__name__}")
    text, reasoning, calls = "", "", []
    for number, part in enumerate(value):
        place = f"{where}.content[{number}]"
        if isinstance(part, str):
            text += part
            continue
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _TEXT_PARTS:
            text += _part_text(part, ("text", "value"), place)
        elif kind in _REASONING_PARTS:
            reasoning += _part_text(part, ("text", "value", kind), place)
        elif kind == "tool_call":
            calls += read_calls(first_given(part, "value", "tool_call"), place)
        else:
            raise BadRecord("content that is not text, such as an image", f"{place}: {kind!r}"[:200])
    return _Content(text, reasoning, tuple(calls))


def _part_text(part: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    if not isinstance(text := first_given(part, *names), str):
        raise BadRecord("a part of the content without its text", where)
    return text


def _plain(value: Any, where: str) -> str:
    """Returns the reasoning in a separate field, which is plain text or a list of parts."""
    content = _content(value, where) if isinstance(value, str | list) else None
    if content is None or content.calls:
        raise BadRecord("reasoning that is not text", where)
    return content.reasoning + content.text


def _loss(turn: Mapping[str, Any], role: str, where: str) -> dict[str, bool]:
    """Returns `{"loss": False}` if a field excludes the turn from training, otherwise `{}`.

    Fractional loss weights are not supported.
    """
    given = {name: turn[name] for name in LOSS_FIELDS if turn.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, str) or value not in (0, 1):
            raise BadRecord("a loss weight that is neither 0 nor 1", f"{where}.{name}")
    said = {bool(value) for value in given.values()}
    if len(said) > 1:
        raise BadRecord("loss weights that contradict each other", f"{where}: {', '.join(given)}")
    if role in ("assistant", "function_call"):
        return {"loss": False} if said == {False} else {}
    if said == {True}:
        raise BadRecord("loss on a turn that is not the assistant's", where)
    return {}


def _check_name(turn: Mapping[str, Any], role: str, names: dict[str, str], where: str) -> None:
    """Raises BadRecord if a role has several speakers, because templates ignore the names that distinguish them."""
    name = turn.get("name")
    if role != "tool" and not is_empty(name) and names.setdefault(role, str(name)) != str(name):
        raise BadRecord("several speakers of one role", where)
