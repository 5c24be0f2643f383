"""A conversation written in a form and read back is the same, whatever it says."""

import random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.own_data import generated, writers
from thinkling.data.chat_forms.detect import READERS, form_of
from thinkling.data.chat_forms.normal import BadRecord, Chat, Pair
from thinkling.data.chat_forms.reasoning import split_reasoning
from thinkling.data.conversations import checked

Message = dict[str, Any]

text = st.text(max_size=12) | st.sampled_from(["<think>", "a </think>", "`</think>`", "\u2028", "<|im_end|>", "\x00"])


def is_plain(content: str) -> bool:
    """Whether the text is read as an answer, with no reasoning in it."""
    try:
        return bool(content.strip()) and split_reasoning(content, "") == ("", content)
    except BadRecord:
        return False


answers = text.filter(is_plain)
reasoning = st.none() | text.filter(lambda value: bool(value.strip()))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(text, scalars, max_size=2)
names = st.text(min_size=1, max_size=8)
objects = st.dictionaries(text, values, max_size=2)
functions = st.builds(lambda name, arguments: {"name": name, "arguments": arguments}, names, objects)
schemas = st.builds(lambda name, schema: {"name": name, "parameters": schema}, names, objects)
tools = st.lists(schemas.map(lambda function: {"type": "function", "function": function}), max_size=2)


@st.composite
def replies(draw: st.DrawFn, calls: bool = True) -> list[Message]:
    """The assistant's turns of a round, with results in between."""
    turns: list[Message] = []
    for step in range(draw(st.integers(0, 2)) if calls else 0):
        made = [
            {"type": "function", "id": f"c{step}{i}", "function": function}
            for i, function in enumerate(draw(st.lists(functions, min_size=1, max_size=2)))
        ]
        turns.append(assistant(draw(st.just("") | answers), draw(reasoning), made))
        results = [{"role": "tool", "content": draw(text), "tool_call_id": call["id"], "name": "n"} for call in made]
        turns += results
    return [*turns, assistant(draw(answers), draw(reasoning), [])]


def assistant(content: str, thought: str | None, calls: list[Message]) -> Message:
    message: Message = {"role": "assistant", "content": content}
    message |= {} if thought is None else {"reasoning_content": thought}
    return {**message, "tool_calls": calls} if calls else message


@st.composite
def chats(draw: st.DrawFn) -> tuple[list[Message], list[Message]]:
    simple = draw(st.booleans())
    messages = [{"role": "system", "content": draw(text)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [{"role": "user", "content": draw(text)}, *draw(replies(calls=not simple))]
    own = [message for message in messages if message["role"] == "assistant"]
    for message in own[:-1] if not simple else []:
        message |= {"loss": False} if draw(st.booleans()) else {}
    return messages, draw(tools)


def stripped(messages: list[Message], *lost: str) -> list[Message]:
    """Messages without the names and ids that a form cannot say."""
    kept = [{key: value for key, value in message.items() if key not in lost} for message in messages]
    for message in kept:
        if "tool_calls" in message:
            calls = message["tool_calls"]
            message["tool_calls"] = [{k: v for k, v in call.items() if k not in lost} for call in calls]
    return kept


LOST = {"sharegpt": ("id", "tool_call_id", "name"), "function_call": ("id", "tool_call_id")}


@settings(max_examples=60)
@given(chat=chats())
def test_a_conversation_comes_back_from_every_form(chat: tuple[list[Message], list[Message]]) -> None:
    messages, announced = chat
    for form, write in writers.CHATS.items():
        if (record := write(messages, announced)) is None:
            continue
        kind = form_of(record)
        assert kind is not None
        found = READERS[kind](record, False)
        assert isinstance(found, Chat)
        assert found.messages == stripped(messages, *LOST.get(form, ())), form
        assert found.messages == checked(found.messages)
        assert found.tools == announced


@settings(max_examples=60)
@given(before=chats(), chosen=replies(), rejected=replies(calls=False))
def test_a_pair_comes_back_from_every_form(before: Any, chosen: list[Message], rejected: list[Message]) -> None:
    messages, announced = before
    messages = messages[: max(i for i, message in enumerate(messages) if message["role"] == "user") + 1]
    messages = stripped(messages, "loss")
    assume(chosen != rejected)
    for form, write in writers.PAIRS.items():
        if (record := write((messages, chosen, rejected, announced))) is None:
            continue
        assert form_of(record) == "preference"
        lost = LOST["sharegpt"] if form == "pair_sharegpt" else ()
        expected = Pair(stripped(messages, *lost), stripped(chosen, *lost), stripped(rejected, *lost), announced)
        assert READERS["preference"](record, False) == expected, form


def test_every_form_says_some_conversation() -> None:
    said = {
        form: sum(write(*chat) is not None for chat in drawn(generated.conversation))
        for form, write in writers.CHATS.items()
    }
    said |= {
        form: sum(write(pair) is not None for pair in drawn(generated.pair)) for form, write in writers.PAIRS.items()
    }
    assert min(said.values()) >= 20


def drawn(draw: Any) -> list[Any]:
    rng = random.Random(0)
    return [draw(rng) for _ in range(200)]
