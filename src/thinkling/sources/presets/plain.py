"""Problems in the user's own format, described by `fields`: a question, an answer and optional further parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thinkling.sources.presets import choice
from thinkling.sources.presets.base import BadRecord, Found, Item, Preset, checked_text


def read(found: Found, seed: int) -> Item:
    """Converts a record to an item.

    The question may also be a list of messages, as in data sets for reinforcement learning: an optional system message,
    then one user message.
    """
    given = found.get("question")
    question, system = _asked(given) if isinstance(given, list) else (found.text("question"), "")
    system = found.text_or_empty("system") or system
    if "choices" in found.fields:
        asked = {**found.record, "\0question": question}
        fields = {**found.fields, "question": "\0question"}
        return replace(choice.read(Found(asked, choice.CHOICE.keys, fields), seed), system=system)
    tests, hidden = tuple(found.texts("tests") or ()), tuple(found.texts("hidden_tests") or ())
    answer = found.text_or_empty("answer") if tests or hidden else found.text("answer")
    return Item(
        question,
        answer,
        found.text_or_empty("solution"),
        system=system,
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        tests=tests,
        hidden_tests=hidden,
        setup=found.text_or_empty("setup"),
    )


def _asked(messages: list[Any]) -> tuple[str, str]:
    if not all(isinstance(message, Mapping) and isinstance(message.get("content"), str) for message in messages):
        raise BadRecord("question is neither text nor messages")
    roles = [message.get("role") for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise BadRecord("question has messages other than one of the user after a system message")
    question = checked_text(messages[-1]["content"], "question").strip()
    if not question:
        raise BadRecord("no question")
    return question, messages[0]["content"] if len(messages) == 2 else ""


PLAIN = Preset(
    keys={
        **{name: (name,) for name in ("question", "answer", "solution", "system", "tests", "hidden_tests", "setup")},
        **{"choices": (), "answer_index": (), "family": (), "id": ()},
    },
    read=read,
    verifier="maths",
)
