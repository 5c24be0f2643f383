"""Extracts reasoning that is between tags at the start of an assistant's text."""

from __future__ import annotations

from thinkling.data.chat_forms.normal import BadRecord, without_code

_TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))


def split_reasoning(text: str, where: str) -> tuple[str, str]:
    """Returns the reasoning and the rest of the text.

    The reasoning block must be at the start of the text, and ends at the first closing tag. Newlines at the edges of
    the block and before the rest belong to the tags, as in Qwen3's template. A later pair of tags, or a tag in code,
    counts as text. Raises BadRecord if a block is never closed, or is closed without being opened, as in completions
    whose prompt ends with the opening tag.
    """
    start = text.lstrip()
    for opening, closing in _TAGS:
        if start.startswith(opening):
            inside, closed, rest = start.removeprefix(opening).partition(closing)
            if not closed:
                raise BadRecord("reasoning that is never closed", where)
            return inside.strip("\n"), rest.lstrip("\n")
    for opening, closing in _TAGS:
        if closing in text:
            before, closed, _ = without_code(text).partition(closing)
            if closed and opening not in before:
                raise BadRecord("reasoning that is closed but never opened", where)
    return "", text
