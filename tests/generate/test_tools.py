"""The calculator as a tool, and the Hermes spelling of its call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.generate.tools import TOOLS, answer_call, call_text, read_call, response_text


def test_hermes_spelling() -> None:
    text = call_text("calculator", {"expression": "47*83"})
    assert text == '<tool_call>\n{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call>'
    assert response_text("3901") == "<tool_response>\n3901\n</tool_response>"


@given(st.text(), st.dictionaries(st.text(), st.integers() | st.text()))
def test_calls_read_back(name: str, arguments: dict) -> None:
    body = call_text(name, arguments).removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert read_call(body) == (name, arguments)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "47*83",
        "[1]",
        '{"name": "calculator"}',
        '{"name": 1, "arguments": {}}',
        '{"name": "calculator", "arguments": "47*83"}',
        '{"name": "calculator", "arguments": {}, "more": 1}',
        '{"name": "calculator", "arguments": {"expression": "1"}',
        "[" * 100_000,
    ],
)
def test_malformed_calls(body: str) -> None:
    assert read_call(body) is None
    assert answer_call(body) == "error: malformed tool call"


def test_answers() -> None:
    def ask(name: str, arguments: dict) -> str:
        return answer_call(json.dumps({"name": name, "arguments": arguments}))

    assert ask("calculator", {"expression": "47*83"}) == "3901"
    assert ask("calculator", {"expression": "7/2"}) == "3.5"
    assert ask("calculator", {"expression": "1/0"}) == "error: division by zero"
    assert ask("calculator", {"expression": 3}).startswith("error:")
    assert ask("calculator", {"expression": "1", "x": 2}).startswith("error:")
    assert ask("shell", {"expression": "1"}) == "error: unknown tool"


def test_listing() -> None:
    function = TOOLS["calculator"].listing()["function"]
    assert function["name"] == "calculator"
    assert function["parameters"]["required"] == ["expression"]
