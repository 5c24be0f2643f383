"""Which form a file is in."""

import pytest

from thinkling.data.chat_forms.detect import detect, form_of, keys_seen


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ("messages", "messages"),
        ("conversations system tools", "sharegpt"),
        ("instruction input output text", "alpaca"),
        ("prompt completion", "prompt_completion"),
        ("prompt prompt_id messages", "messages"),
        ("prompt chosen rejected messages", "preference"),
        ("conversations chosen rejected", "preference"),
        ("instruction chosen rejected", "preference"),
        ("question answer", None),
        ("prompt response", None),
        ("text", None),
    ],
)
def test_the_form_is_told_by_the_fields(fields: str, form: str | None) -> None:
    assert form_of(dict.fromkeys(fields.split(), "x")) == form


def test_null_fields_are_no_marks() -> None:
    assert form_of({"messages": None, "instruction": "a", "output": "b"}) == "alpaca"


def test_most_records_decide_and_the_earlier_of_two_forms() -> None:
    chat, alpaca = {"messages": []}, {"instruction": "a", "output": "b"}
    assert detect([{}, chat, alpaca, alpaca]) == "alpaca"
    assert detect([alpaca, chat]) == "alpaca"
    assert detect([{}, {"x": 1}]) is None


def test_seen_fields_are_listed_once_and_cut() -> None:
    assert keys_seen([{"a": 1}, {"b": 1, "a": 2}]) == "a, b"
    assert keys_seen([{str(i): i for i in range(30)}]).endswith("11, …")
    assert keys_seen([{}]) == "no fields"
