"""Generates alternative forms of the same conversation, because templates differ in the form they expect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thinkling.data.chat_rendering import ChatTemplate, Message
from thinkling.errors import UserError

_INLINE = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)


def forms(template: ChatTemplate, messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yields the conversation unchanged, then equivalent forms to try if the template rejects it or drops a call.

    The other forms have nine-character ids that link calls and results (Mistral), null instead of empty content,
    arguments as JSON text (DeepSeek), and finally content as a list of parts (vision models). Reasoning inside the
    content is moved to `reasoning_content` if the template handles `</think>` itself and renders the same text.
    """
    given = _split_as_template(template, messages)
    if not any(message.get("tool_calls") for message in given):
        yield given
        yield [_in_parts(message) for message in given]
        return
    linked = with_call_ids(given)
    first = linked if "tool_call_id" in template.source and not _has_ids(given) else given
    yield first
    for base in [first] if first is linked else [first, linked]:
        if base is not first:
            yield base
        bare = [_without_empty_content(message) for message in base]
        if bare != base:
            yield bare
        yield [_with_json_arguments(message) for message in base]
        if bare != base:
            yield [_with_json_arguments(message) for message in bare]
    yield [_in_parts(message) for message in linked]


def with_call_ids(messages: Sequence[Message]) -> list[Message]:
    """Returns the messages with ids `call00000`, `call00001`, … for calls and for the corresponding results."""
    found: list[Message] = []
    named: dict[str, str] = {}
    waiting: list[str] = []
    count = 0
    for message in messages:
        if calls := message.get("tool_calls"):
            linked = []
            for call in calls:
                new = f"call{count:05d}"
                count += 1
                named[call.get("id", new)] = new
                waiting.append(new)
                linked.append({**call, "id": new})
            found.append({**message, "tool_calls": linked})
        elif message["role"] == "tool":
            new = named.get(message.get("tool_call_id", ""), waiting[0] if waiting else "call00000")
            waiting = [other for other in waiting if other != new]
            found.append({**message, "tool_call_id": new})
        else:
            found.append(message)
    return found


def split_thoughts(message: Message) -> Message:
    """Returns the message with the reasoning at the start of its content moved to `reasoning_content`."""
    content = message.get("content")
    if message["role"] != "assistant" or message.get("reasoning_content") or not isinstance(content, str):
        return message
    found = _INLINE.fullmatch(content)
    if found is None:
        return message
    return {**message, "reasoning_content": found[1].strip("\n"), "content": found[2].lstrip("\n")}


def _split_as_template(template: ChatTemplate, messages: Sequence[Message]) -> list[Message]:
    given = list(messages)
    if "</think>" not in template.source:
        return given
    split = [split_thoughts(message) for message in given]
    if all(a is b for a, b in zip(split, given, strict=True)):
        return given
    try:
        same = template.render(split) == template.render(given)
    except UserError:
        return given
    return split if same else given


def _has_ids(messages: Sequence[Message]) -> bool:
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return all(call.get("id") for call in calls)


def _without_empty_content(message: Message) -> Message:
    return {**message, "content": None} if message.get("tool_calls") and not message.get("content") else message


def _in_parts(message: Message) -> Message:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _with_json_arguments(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    return {**message, "tool_calls": [_json_call(call) for call in message["tool_calls"]]}


def _json_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
