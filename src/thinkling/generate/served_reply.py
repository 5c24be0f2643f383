"""Parsing of the answer and the reasoning of a server's chat completion, in any of the formats that servers use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_rendering import REASONING_TAGS
from thinkling.data.reasoning_marks import without_spelled
from thinkling.generate.backends import Reply

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "output_text", "input_text", "refusal")
_REASONING_PARTS = ("thinking", "reasoning")
_SILENT_PARTS = ("redacted_thinking", "tool_call", "tool_use", "function_call")
"""Types of content parts that are ignored: encrypted reasoning, and tool calls (requests do not offer tools)."""
_DEEPEST = 8
"""Maximum nesting depth of content parts. Servers use a depth of one."""


def read_answer(answer: Any) -> Reply:
    """Parses the first choice of a chat completion.

    Reasoning is taken from a separate field, from parts of the content, or from tags at the start of the text; the
    opening tag may be part of the prompt instead of the text. A reply that ends inside its reasoning has no answer. A
    refusal counts as the answer. Raises ValueError if there is no choice, or if the choice contains anything other than
    text.
    """
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise ValueError("the server's answer is not a chat completion")
    message = choices[0].get("message")
    if not isinstance(message, Mapping):
        raise ValueError("the first choice in the server's answer has no message")
    text, thought = _read(message.get("content"))
    if not text and not thought:
        text = "".join(_read(message.get("refusal")))
    found = [thought, *("".join(_read(message[name])) for name in REASONING_FIELDS if message.get(name))]
    inline, text = split_inline(text, bool("".join(found).strip()))
    # A dict removes duplicates: the same reasoning may appear twice.
    found = dict.fromkeys(piece.strip() for piece in (*found, inline) if piece.strip())
    reason = choices[0].get("finish_reason")
    return Reply(text.strip(), "\n\n".join(found), _sound(reason) if isinstance(reason, str) and reason else "stop")


def split_inline(text: str, has_reasoning: bool = False) -> tuple[str, str]:
    """Splits a text into the reasoning between tags and the answer after the reasoning.

    A reasoning block at the start of the text ends at the first closing tag; if the block never ends, there is no
    answer. Tags in code and in quotes count as text, as does an opening tag in the middle of a line. `has_reasoning`:
    whether the reasoning is already known from a separate field. In that case, a closing tag alone does not imply that
    the prompt contains the opening tag, unless only whitespace precedes the closing tag.
    """
    blocks: list[str] = []
    for opening, closing in REASONING_TAGS:
        while text.lstrip().startswith(opening):
            inside, closed, rest = text.lstrip().removeprefix(opening).partition(closing)
            blocks.append(inside)
            text = rest
            if not closed:
                return "\n\n".join(blocks), ""
    for opening, closing in REASONING_TAGS:
        prose = _without_spelled(text, (opening, closing))
        end = prose.find(closing)
        if end >= 0 and not blocks and (not has_reasoning or not text[:end].strip()):
            blocks.append(text[:end])
            text = text[end + len(closing) :]
            prose = _without_spelled(text, (opening, closing))
        unclosed = re.search(rf"^[ \t]*{re.escape(opening)}", prose, re.MULTILINE)
        if unclosed and closing not in prose[unclosed.end() :]:
            return "\n\n".join([*blocks, text]), ""
    return "\n\n".join(blocks), text


def _without_spelled(text: str, tags: tuple[str, str]) -> str:
    """Returns the text, with tags in quotes or code replaced by blanks."""
    either = re.compile("|".join(map(re.escape, tags)))
    pieces, at = [], 0
    for found in either.finditer(text):
        pieces += [(False, text[at : found.start()]), (True, found.group())]
        at = found.end()
    told = without_spelled([*pieces, (False, text[at:])], tags)
    return "".join(piece if is_tag else either.sub(lambda tag: " " * len(tag.group()), piece) for is_tag, piece in told)


def _read(value: Any, depth: int = 0) -> tuple[str, str]:
    """Returns the text and the reasoning of a message's content, which is null, a string, a part or a list of parts.
    Raises ValueError for anything else."""
    if value is None:
        return "", ""
    if isinstance(value, str):
        return _sound(value), ""
    if depth > _DEEPEST:
        raise ValueError("the server's answer is nested too deeply")
    if isinstance(value, list):
        pieces = [_read(part, depth + 1) for part in value]
        return "".join(text for text, _ in pieces), "".join(thought for _, thought in pieces)
    kind = value.get("type") if isinstance(value, Mapping) else type(value).__name__
    if not isinstance(value, Mapping) or not isinstance(kind, str):
        raise ValueError(f"the server's answer contains a part of type {kind!r}, which is not text"[:200])
    if kind in _TEXT_PARTS:
        return _inner(value, ("text", "value", "refusal"), depth), ""
    if kind in _REASONING_PARTS:
        return "", _inner(value, (kind, "text", "value", "content", "summary"), depth)
    if kind.startswith(("reasoning.", "summary_text")):
        return "", _inner(value, ("text", "summary"), depth)
    if kind in _SILENT_PARTS:
        return "", ""
    raise ValueError(f"the server's answer contains a part of type {kind!r}, which is not text"[:200])


def _inner(part: Mapping[str, Any], names: tuple[str, ...], depth: int) -> str:
    """Returns all text in the first of the fields `names` that the part has."""
    return "".join(_read(next((part[name] for name in names if part.get(name)), None), depth + 1))


def _sound(text: str) -> str:
    """Returns the text with surrogate pairs joined and lone surrogates replaced. A server may cut a reply in the middle
    of a pair, and lone surrogates cannot be encoded as UTF-8."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
