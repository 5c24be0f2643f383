"""Preference pairs in the shapes that TRL, LLaMA-Factory and data sets on the hub have."""

import pytest
from trl.data_utils import extract_prompt

from thinkling.data.chat_forms import preference
from thinkling.data.chat_forms.normal import BadRecord, Pair

SYSTEM = {"role": "system", "content": "s"}
USER = {"role": "user", "content": "hi"}
GOOD, BAD = {"role": "assistant", "content": "hello"}, {"role": "assistant", "content": "what"}
PAIR = Pair([USER], [GOOD], [BAD], [])
CALL = {"type": "function", "id": "1", "function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "hi", "chosen": "hello", "rejected": "what"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "hi", "chosen": GOOD, "rejected": BAD},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {
            "prompt": "hi",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
            "messages": [USER, GOOD],
            "score_chosen": 7.5,
        },
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"messages": [USER], "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [{"from": "human", "value": "hi"}],
            "chosen": {"from": "gpt", "value": "hello"},
            "rejected": {"from": "gpt", "value": "what"},
        },
        {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "what"},
    ],
)
def test_a_pair_is_the_same_in_every_shape(record: dict) -> None:
    assert preference.read(record) == PAIR


def test_the_system_text_comes_first_in_every_shape() -> None:
    for record in (
        {"system": "s", "prompt": "hi", "chosen": "hello", "rejected": "what"},
        {"system": "s", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"system": "s", "instruction": "hi", "chosen": "hello", "rejected": "what"},
    ):
        assert preference.read(record).messages == [SYSTEM, USER]


def test_the_shared_start_is_the_one_that_trl_finds() -> None:
    record = {"chosen": [SYSTEM, USER, BAD, USER, GOOD], "rejected": [SYSTEM, USER, BAD, USER, BAD]}
    expected, found = extract_prompt(record), preference.read(record)
    assert (found.messages, found.chosen, found.rejected) == tuple(
        expected[k] for k in ("prompt", "chosen", "rejected")
    )


def test_turns_of_the_assistant_before_the_difference_belong_to_the_replies() -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    result = {"role": "tool", "content": "r", "tool_call_id": "1"}
    found = preference.read({"chosen": [USER, GOOD, GOOD], "rejected": [USER, GOOD, BAD]})
    assert (found.messages, found.chosen) == ([USER], [GOOD, GOOD])
    found = preference.read({"chosen": [USER, called, result, GOOD], "rejected": [USER, GOOD]})
    assert (found.messages, found.chosen, found.rejected) == ([USER], [called, result, GOOD], [GOOD])


def test_no_loss_is_asked_for_in_what_comes_before() -> None:
    before = [USER, {**BAD, "weight": 0}, USER]
    found = preference.read({"messages": before, "chosen": GOOD, "rejected": BAD})
    assert found.messages == [USER, BAD, USER]


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("no chosen", {"prompt": "hi", "rejected": "b"}),
        ("no rejected", {"prompt": "hi", "chosen": "b"}),
        ("no prompt", {"chosen": "a", "rejected": "b"}),
        ("no prompt", {"messages": [], "chosen": "a", "rejected": "b"}),
        ("no assistant turn", {"prompt": "hi", "chosen": [], "rejected": "b"}),
        ("chosen and rejected are equal", {"prompt": "hi", "chosen": "a", "rejected": "a"}),
        ("chosen and rejected are equal", {"chosen": [USER, GOOD], "rejected": [USER, GOOD]}),
        ("chosen and rejected share no prompt", {"chosen": [USER, GOOD], "rejected": [SYSTEM, USER, BAD]}),
        (
            "chosen and rejected do not start with the prompt",
            {"prompt": "?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        ),
        ("prompt ends with an assistant turn", {"prompt": [USER, GOOD], "chosen": "a", "rejected": "b"}),
        (
            "chosen or rejected goes beyond the assistant's turn",
            {"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, BAD, USER, GOOD]},
        ),
        ("empty assistant turn", {"prompt": "hi", "chosen": "a", "rejected": ""}),
        (
            "chosen or rejected starts or ends with a tool turn",
            {
                "prompt": "hi",
                "chosen": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "r"}],
                "rejected": "b",
            },
        ),
        ("images, audio or video", {"prompt": "hi", "chosen": "a", "rejected": "b", "images": ["x"]}),
    ],
)
def test_what_is_rejected_and_why(expected: str, record: dict) -> None:
    with pytest.raises(BadRecord) as bad:
        preference.read(record)
    assert bad.value.reason == expected
