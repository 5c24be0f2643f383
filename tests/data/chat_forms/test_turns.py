"""Turns in OpenAI's and ShareGPT's fields, and what is wrong with those that are not read."""

import json

import pytest

from thinkling.data.chat_forms import messages, sharegpt
from thinkling.data.chat_forms.normal import BadRecord

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
CALL = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}


def read(*turns: object, **more: object) -> list[dict]:
    return messages.read({"messages": list(turns), **more}).messages


def reason(*turns: object, **more: object) -> str:
    with pytest.raises(BadRecord) as bad:
        read(*turns, **more)
    return bad.value.reason


def test_a_plain_conversation_is_read_as_it_is() -> None:
    assert read({"role": "system", "content": "s"}, USER, ANSWER) == [{"role": "system", "content": "s"}, USER, ANSWER]


@pytest.mark.parametrize(
    ("spelled", "role"),
    [
        ("developer", "system"),
        ("human", "user"),
        ("User", "user"),
        ("gpt", "assistant"),
        ("model", "assistant"),
        ("chatgpt", "assistant"),
    ],
)
def test_roles_have_several_spellings(spelled: str, role: str) -> None:
    turns = {"system": [USER, ANSWER], "user": [ANSWER], "assistant": []}[role]
    first = [] if role != "assistant" else [USER]
    assert [m["role"] for m in read(*first, {"role": spelled, "content": "x"}, *turns)][len(first)] == role


@pytest.mark.parametrize("spelled", ["tool", "function", "observation", "ipython", "tool_response"])
def test_results_have_several_spellings(spelled: str) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    found = read(USER, called, {"role": spelled, "content": "7", "tool_call_id": "c1", "name": "f"}, ANSWER)
    assert found[2] == {"role": "tool", "content": "7", "tool_call_id": "c1", "name": "f"}


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        {**CALL, "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "c1", "name": "f", "arguments": {"x": 1}},
        {"id": "c1", "name": "f", "parameters": '{"x": 1}'},
        json.dumps(CALL),
    ],
)
def test_a_call_is_the_same_however_it_is_written(call: object) -> None:
    assert read(USER, {"role": "assistant", "content": "", "tool_calls": [call]})[1]["tool_calls"] == [CALL]
    assert read(USER, {"role": "assistant", "tool_calls": json.dumps([call])})[1]["tool_calls"] == [CALL]


@pytest.mark.parametrize("arguments", ["", "  ", None, "{}", {}])
def test_a_call_may_have_no_arguments(arguments: object) -> None:
    found = read(USER, {"role": "assistant", "function_call": {"name": "f", "arguments": arguments}})
    assert found[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]


def test_numbers_serve_as_ids_of_calls() -> None:
    called = {"role": "assistant", "tool_calls": [{"id": 3, "name": "f", "arguments": {}}]}
    found = read(USER, called, {"role": "tool", "tool_call_id": 3, "content": "r"}, ANSWER)
    assert found[1]["tool_calls"][0]["id"] == found[2]["tool_call_id"] == "3"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("value", ["hm", [{"type": "text", "text": "hm"}], [{"type": "thinking", "thinking": "hm"}]])
def test_reasoning_is_found_in_its_fields(field: str, value: object) -> None:
    assert read(USER, {**ANSWER, field: value})[1] == {**ANSWER, "reasoning_content": "hm"}


def test_the_same_reasoning_in_two_places_is_one_and_different_ones_are_refused() -> None:
    twice = {"role": "assistant", "content": "<think>hm</think>hello", "reasoning": "hm", "thinking": "hm\n"}
    assert read(USER, twice)[1]["content"] == "hello"
    assert reason(USER, {**twice, "thinking": "oh"}) == "two different reasonings in a message"


def test_empty_reasoning_is_none() -> None:
    assert read(USER, {**ANSWER, "reasoning": " ", "thinking": [], "reasoning_content": None})[1] == ANSWER


def test_text_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}, {"type": "output_text", "text": "c"}, "d"]
    assert read(USER, {"role": "assistant", "content": parts})[1]["content"] == "abcd"


def test_parts_of_llama_factory_hold_reasoning_and_calls() -> None:
    call = {"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    parts = [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "so"}, call]
    [_, found] = read(USER, {"role": "assistant", "content": parts, "loss_weight": 1.0})
    assert (found["reasoning_content"], found["content"], len(found["tool_calls"])) == ("hm", "so", 1)


@pytest.mark.parametrize("field", ["loss", "loss_weight", "loss_mask", "weight", "train", "training"])
@pytest.mark.parametrize("value", [0, 0.0, False])
def test_a_turn_is_left_untrained_by_any_of_the_fields_for_it(field: str, value: object) -> None:
    assert read(USER, {**ANSWER, field: value}, USER, ANSWER)[1]["loss"] is False
    assert "loss" not in read(USER, {**ANSWER, field: not value})[1]


@pytest.mark.parametrize(
    ("expected", "turns"),
    [
        ("no messages", []),
        ("no assistant turn", [USER]),
        ("ends with a user turn", [USER, ANSWER, USER]),
        ("ends with a tool turn", [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": ""}]),
        ("no assistant turn is trained on", [USER, {**ANSWER, "weight": 0}]),
        ("empty assistant turn", [USER, {"role": "assistant", "content": " \n"}]),
        ("empty assistant turn", [USER, {"role": "assistant", "content": None, "reasoning": "hm"}]),
        (
            "two system messages",
            [{"role": "system", "content": ""}, {"role": "developer", "content": ""}, USER, ANSWER],
        ),
        ("system message after the first turn", [USER, {"role": "system", "content": "s"}, ANSWER]),
        ("tool result without a call", [USER, {"role": "tool", "content": "7"}, ANSWER]),
        ("unknown role", [{"role": "narrator", "content": "x"}, ANSWER]),
        ("unknown role", [{"role": 3, "content": "x"}, ANSWER]),
        ("a message without a role", [{"speaker": "user", "content": "x"}, ANSWER]),
        ("a message is not an object", ["hi", ANSWER]),
        ("a message without content", [{"role": "user"}, ANSWER]),
        ("content is neither text nor a list of parts", [{"role": "user", "content": 3}, ANSWER]),
        ("content is neither text nor a list of parts", [{"role": "user", "content": {"text": "x"}}, ANSWER]),
        (
            "content that is not text, such as an image",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "…"}}]}, ANSWER],
        ),
        ("a part of the content without its text", [{"role": "user", "content": [{"type": "text"}]}, ANSWER]),
        ("text with half a surrogate pair", [{"role": "user", "content": "\ud83d"}, ANSWER]),
        ("text with half a surrogate pair", [USER, {**ANSWER, "reasoning": "\ud83d"}]),
        ("reasoning that is not text", [USER, {**ANSWER, "reasoning": {"effort": "high"}}]),
        ("reasoning that is never closed", [USER, {"role": "assistant", "content": "<think>so I"}]),
        ("reasoning that is closed but never opened", [USER, {"role": "assistant", "content": "so\n</think>\n4"}]),
        ("a loss weight that is neither 0 nor 1", [USER, {**ANSWER, "weight": 0.5}]),
        ("a loss weight that is neither 0 nor 1", [USER, {**ANSWER, "weight": "1"}]),
        ("loss weights that contradict each other", [USER, {**ANSWER, "weight": 1, "train": False}]),
        ("loss on a turn that is not the assistant's", [{**USER, "loss_weight": 1.0}, ANSWER]),
        ("a message with the field refusal, which is not read", [USER, {**ANSWER, "refusal": "I cannot"}]),
        ("a message with the field mask, which is not read", [USER, {**ANSWER, "mask": 1}]),
        ("several speakers of one role", [{**USER, "name": "Ann"}, {**USER, "name": "Bob"}, ANSWER]),
        ("reasoning or a tool call outside the assistant's turns", [{**USER, "tool_calls": [CALL]}, ANSWER]),
        ("tool calls in two fields of a message", [USER, {**ANSWER, "tool_calls": [CALL], "function_call": CALL}]),
        ("a tool call without a name", [USER, {**ANSWER, "tool_calls": [{"function": {"arguments": {}}}]}]),
        ("a tool call that is not JSON", [USER, {**ANSWER, "tool_calls": "f(x)"}]),
        ("a tool call that is not of a function", [USER, {**ANSWER, "tool_calls": [{**CALL, "type": "custom"}]}]),
        ("tool call arguments that are not JSON", [USER, {**ANSWER, "tool_calls": {"name": "f", "arguments": "{'x'"}}]),
        (
            "tool call arguments that are not an object",
            [USER, {**ANSWER, "tool_calls": {"name": "f", "arguments": [1]}}],
        ),
        ("a value that is not JSON", [USER, {**ANSWER, "tool_calls": {"name": "f", "arguments": '{"x": NaN}'}}]),
        ("a call id that is neither text nor number", [USER, {**ANSWER, "tool_calls": [{**CALL, "id": []}]}]),
        ("a message with the field tools, which is not read", [{**USER, "tools": [CALL]}, ANSWER]),
    ],
)
def test_what_is_rejected_and_why(expected: str, turns: list) -> None:
    assert reason(*turns) == expected


def test_a_call_nested_without_end_is_rejected() -> None:
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    assert reason(USER, {**ANSWER, "tool_calls": {"name": "f", "arguments": {"x": deep}}}) == "nested too deeply"
    text = '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert reason(USER, {**ANSWER, "tool_calls": {"name": "f", "arguments": text}}) == (
        "tool call arguments that are not JSON"
    )


def test_a_result_has_to_answer_a_call_of_the_turn_before() -> None:
    called = {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "c2"}]}
    results = [{"role": "tool", "content": "r", "tool_call_id": name} for name in ("c2", "c1")]
    assert len(read(USER, called, *results, ANSWER)) == 5
    assert reason(USER, called, *results, results[0], ANSWER) == "tool result without a call"
    assert reason(USER, called, {**results[0], "tool_call_id": "c3"}, ANSWER) == "tool result for an unknown call"
    assert reason(USER, called, results[0], results[0], ANSWER) == "tool result for an unknown call"
    assert reason(USER, called, USER, results[0], ANSWER) == "tool result without a call"


def test_turns_of_one_role_may_follow_each_other_and_the_assistant_may_start() -> None:
    assert [m["role"] for m in read(ANSWER, USER, USER, ANSWER, ANSWER)] == [
        *("assistant", "user", "user", "assistant", "assistant")
    ]


def test_what_follows_the_last_answer_is_cut_where_the_recipe_says_so() -> None:
    record = {"messages": [USER, ANSWER, USER, {"role": "user", "content": "?"}]}
    assert messages.read(record, cut_unanswered=True).messages == [USER, ANSWER]


@pytest.mark.parametrize(
    "text",
    [
        "The tag `</think>` closes it.",
        "```\nx = '</think>'\n```\nis code",
        "First <think>this</think> then that",
        "a < b and [THINK] alone",
        "```\nunclosed code </think>",
    ],
)
def test_tags_in_the_middle_of_a_text_stay_text(text: str) -> None:
    assert read(USER, {"role": "assistant", "content": text})[1] == {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>\nhm\n</think>\n\nso", "hm", "so"),
        (" \n<think>hm</think>so</think>", "hm", "so</think>"),
        ("<think>a<think>b</think>so", "a<think>b", "so"),
        ("[THINK]hm[/THINK]so", "hm", "so"),
        ("<think>\n\n</think>\n\nso", None, "so"),
        ("<think> in code: `</think>` so", " in code: `", "` so"),  # the first close ends it: as the model will read it
    ],
)
def test_a_block_at_the_start_is_reasoning_up_to_its_first_close(text: str, reasoning: str | None, rest: str) -> None:
    [_, found] = read(USER, {"role": "assistant", "content": text})
    assert (found.get("reasoning_content"), found["content"]) == (reasoning, rest)


def test_tags_in_other_turns_stay_text() -> None:
    asked = {"role": "user", "content": "<think>what is this</think>?"}
    assert read({"role": "system", "content": "</think>"}, asked, ANSWER)[1] == asked


TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "given",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"functions": [TOOL["function"]]},
        {"tools": TOOL["function"]},
        {"tools": [{"type": "function", **TOOL["function"]}]},
        {"tools": [json.dumps(TOOL)]},
        {"tools": [TOOL], "functions": []},
    ],
)
def test_tools_are_announced_in_one_form(given: dict) -> None:
    assert messages.read({"messages": [USER, ANSWER], **given}).tools == [TOOL]


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("tools are not JSON", {"tools": "search(q)"}),
        ("tools are not a list", {"tools": 3}),
        ("a tool without a name", {"tools": [{"description": "d"}]}),
        ("a tool without a name", {"tools": [3]}),
        ("a tool that is not a function", {"tools": [{"type": "web_search"}]}),
        ("tools and functions differ", {"tools": [TOOL], "functions": [{"name": "g"}]}),
        ("images, audio or video", {"images": ["a.png"]}),
        ("a completion with a label, as for KTO: not a pair", {"label": True}),
        ("a completion with a label, as for KTO: not a pair", {"kto_tag": "true"}),
        ("system is not text", {"system": ["s"]}),
        ("two system messages", {"system": "s", "messages": [{"role": "system", "content": "s"}, USER, ANSWER]}),
        ("no messages", {"messages": None}),
        ("messages are not a list", {"messages": {"role": "user"}}),
        ("messages are not JSON", {"messages": "hi"}),
    ],
)
def test_records_are_rejected_for_what_is_beside_the_turns(expected: str, given: dict) -> None:
    with pytest.raises(BadRecord) as bad:
        messages.read({"messages": [USER, ANSWER], **given})
    assert bad.value.reason == expected


def test_metadata_beside_the_text_is_no_fault() -> None:
    turns = [{**USER, "timestamp": 3}, {**ANSWER, "annotations": [], "refusal": None, "finish_reason": "stop"}]
    assert read(*turns, source="forum", category=None) == [USER, ANSWER]


def sharegpt_turns(*turns: tuple[str, object]) -> list[dict]:
    return sharegpt.read({"conversations": [{"from": role, "value": value} for role, value in turns]}).messages


def test_sharegpt_writes_calls_as_turns() -> None:
    call, result = '{"name": "f", "arguments": {"x": 1}}', '{"r": 7}'
    found = sharegpt_turns(("human", "hi"), ("function_call", call), ("observation", result), ("gpt", "hello"))
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    assistant = {"role": "assistant", "content": "", "tool_calls": calls}
    assert found == [USER, assistant, {"role": "tool", "content": result}, ANSWER]


def test_a_call_of_sharegpt_joins_the_text_before_it_and_several_make_one_turn() -> None:
    call = {"name": "f", "arguments": "{}"}
    found = sharegpt_turns(
        ("human", "hi"),
        ("gpt", "<think>hm</think>"),
        ("function_call", [call, call]),
        ("function_call", json.dumps(call)),
        *[("observation", "r")] * 3,
        ("gpt", "hello"),
    )
    assert [m["role"] for m in found] == ["user", "assistant", "tool", "tool", "tool", "assistant"]
    assert (found[1]["reasoning_content"], found[1]["content"], len(found[1]["tool_calls"])) == ("hm", "", 3)


def test_sharegpt_has_its_system_message_beside_the_turns() -> None:
    turns = [{"from": "human", "value": "hi"}, {"role": "assistant", "content": "hello"}]
    assert sharegpt.read({"conversations": turns, "system": "s"}).messages[0] == {"role": "system", "content": "s"}
    assert sharegpt.read({"conversations": json.dumps(turns), "system": ""}).messages == [USER, ANSWER]


def test_a_call_in_the_text_is_not_learned_as_text() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert reason(USER, {"role": "assistant", "content": f"I look.\n{call}"}) == "a tool call written as text"
    for text in (
        f"```\n{call}\n```",
        "<tool_call>spelled</tool_call>",
        '<tool_call>{"x": 1}</tool_call>',
        "<tool_call>",
    ):
        assert read(USER, {"role": "assistant", "content": text})[1]["content"] == text
    assert read({"role": "user", "content": call}, ANSWER)[0]["content"] == call


def test_many_tags_take_no_longer_than_other_text() -> None:
    """If each tag is searched for its end through the whole text, a record of a megabyte takes minutes."""
    text = '<tool_call>{"a": ' * 100_000
    assert read(USER, {"role": "assistant", "content": text})[1]["content"] == text
