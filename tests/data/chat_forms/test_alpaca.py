"""Alpaca: instruction, input, output, history."""

import pytest

from thinkling.data.chat_forms import alpaca
from thinkling.data.chat_forms.normal import BadRecord


def texts(**record: object) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in alpaca.read(record).messages]


def test_input_follows_the_instruction_on_its_own_line() -> None:
    assert texts(instruction="Add.", input="1 and 2", output="3") == [("user", "Add.\n1 and 2"), ("assistant", "3")]
    assert texts(instruction="Add.", input="", output="3")[0] == ("user", "Add.")
    assert texts(instruction="Add.", input=None, output="3")[0] == ("user", "Add.")
    assert texts(instruction="", input="1 and 2", output="3")[0] == ("user", "1 and 2")


def test_system_and_history_come_first() -> None:
    found = texts(instruction="c", output="d", system="s", history=[["a", "b"]])
    assert found == [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]


def test_reasoning_is_read_from_its_field_or_the_output() -> None:
    for record in ({"output": "<think>hm</think>3"}, {"output": "3", "reasoning": "hm"}):
        assert alpaca.read({"instruction": "a", **record}).messages[1]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("no output", {"instruction": "a"}),
        ("no output", {"instruction": "a", "output": ["b", "c"]}),
        ("empty assistant turn", {"instruction": "a", "output": ""}),
        ("no instruction", {"instruction": "", "input": "", "output": "b"}),
        ("instruction or input is not text", {"instruction": "a", "input": 3, "output": "b"}),
        ("history is not a list of rounds", {"instruction": "a", "output": "b", "history": [["a"]]}),
        ("history is not a list of rounds", {"instruction": "a", "output": "b", "history": 3}),
        ("history is not a list of rounds", {"instruction": "a", "output": "b", "history": "x"}),
    ],
)
def test_what_is_rejected_and_why(expected: str, record: dict) -> None:
    with pytest.raises(BadRecord) as bad:
        alpaca.read(record)
    assert bad.value.reason == expected
