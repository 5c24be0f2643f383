"""Replies of servers in the ways in which they write reasoning, content and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.generate.backends import Reply
from thinkling.generate.served_reply import read_answer, split_inline

QUOTED = 'A reply may hold "<think>" and "</think>" in quotes.'
CODE = 'Here:\n```python\nprint("<think>", "</think>")\n```'


def reply(content: Any, **fields: Any) -> Reply:
    return read_answer({"choices": [{"message": {"content": content, **fields}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ([{"type": "text", "text": "four"}], "four", ""),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, "4"], "4", "2+2"),
        ([{"type": "thinking", "thinking": "2+2", "signature": "x"}, {"type": "text", "text": "4"}], "4", "2+2"),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "sum"}]}, "4"], "4", "sum"),
        ([{"type": "reasoning", "text": "why"}, {"type": "output_text", "text": "4"}], "4", "why"),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "4"}], "4", ""),
        ([{"type": "refusal", "refusal": "No."}], "No.", ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
        ([{"type": "text", "text": "<think>hm</think>4"}], "4", "hm"),
        ([], "", ""),
        (None, "", ""),
    ],
)  # fmt: skip
def test_content_parts_were_their_repr(content: Any, text: str, reasoning: str) -> None:
    assert (reply(content).text, reply(content).reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    "content", [7, True, {"type": "image_url", "image_url": {"url": "x"}}, [{"type": "audio"}], [3], [{"text": "x"}]]
)
def test_a_part_that_is_no_text_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not text"):
        reply(content)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_each_name_of_the_reasoning_field(name: str) -> None:
    assert reply("4", **{name: "2+2"}) == Reply("4", "2+2", "stop")
    assert reply("<think>2+2</think>4", **{name: "2+2"}) == Reply("4", "2+2", "stop")
    assert reply("4", **{name: [{"type": "text", "text": "2+2"}]}) == Reply("4", "2+2", "stop")


def test_reasoning_under_several_names_is_taken_once() -> None:
    assert reply("4", reasoning="2+2", reasoning_content="2+2").reasoning == "2+2"
    assert reply("4", reasoning="short", reasoning_content="long").reasoning == "long\n\nshort"


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>cut of", "cut of", ""),
        ("\n<think>\ncut", "\ncut", ""),
        ("[THINK]cut", "cut", ""),
        ("<think>a</think>b", "a", "b"),
        ("<think>a</think>\n<think>b</think>c", "a\n\nb", "c"),
        ("<think>a</think><think>b", "a\n\nb", ""),
        ("prompt opened it</think>b", "prompt opened it", "b"),
        ("first words\n<think>and then", "first words\n<think>and then", ""),
        ("a</think>b\n<think>again", "a\n\nb\n<think>again", ""),
        (CODE, "", CODE),
        ("<think>a</think>" + CODE, "a", CODE),
        ("a</think>" + CODE, "a", CODE),
        ("The tag <think> opens it.", "", "The tag <think> opens it."),
        ("Use `</think>`.", "", "Use `</think>`."),
        (QUOTED, "", QUOTED),
        (f"a</think>{QUOTED}", "a", QUOTED),
    ],
)
def test_inline_reasoning(text: str, reasoning: str, answer: str) -> None:
    assert split_inline(text) == (reasoning, answer)


def test_a_closing_tag_behind_known_reasoning_is_text() -> None:
    assert split_inline("It ends with </think> then", True) == ("", "It ends with </think> then")
    assert split_inline("\n</think>\n4", True) == ("\n", "\n4")


def test_a_reply_that_is_calls_alone_has_no_answer() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert reply(None, tool_calls=[call], reasoning="why") == Reply("", "why", "stop")


def test_a_refusal_is_the_answer() -> None:
    assert reply(None, refusal="I cannot.") == Reply("I cannot.", "", "stop")


def test_half_a_surrogate_pair_did_not_reach_parquet() -> None:
    assert reply("a\ud83d").text == "a\ufffd"
    assert reply("\ud83d\ude00 \ude00").text == "😀 \ufffd"


def test_nesting_without_end_is_no_answer() -> None:
    content: Any = "x"
    for _ in range(500):
        content = [content]
    with pytest.raises(ValueError, match="nested too deeply"):
        reply(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["text", "thinking", "<think>"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "thinking", "reasoning", "refusal"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values, json_values)
def test_any_message_is_read_or_refused(content: Any, reasoning: Any) -> None:
    body = {"choices": [{"message": {"content": content, "reasoning": reasoning}}]}
    try:
        found = read_answer(json.loads(json.dumps(body)))
    except ValueError as error:
        assert str(error).startswith(("the server's answer", "the first choice"))  # noqa: PT017 (it may also be read)
        return
    assert found.text == found.text.strip()
    (found.text + found.reasoning).encode()


@given(st.lists(st.sampled_from(["<think>", "</think>", "\n", "```\n", "`", "a", " "]), max_size=12).map("".join))
def test_no_text_is_lost_between_reasoning_and_answer(text: str) -> None:
    reasoning, answer = split_inline(text)
    assert (reasoning + answer).count("a") == text.count("a")
