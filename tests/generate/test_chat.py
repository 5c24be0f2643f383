"""The terminal conversation takes completions apart and shows every part."""

import io

from rich.console import Console

from thinkling.generate.chat import parts, show

TOOL = (
    '<think>\n47*83\n</think>\n\n<tool_call>\n{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call>'
    "<|im_end|>\n<|im_start|>user\n<tool_response>\n3901\n</tool_response><|im_end|>\n<|im_start|>assistant\n3901<|im_end|>"
)


def test_parts_of_an_answer_with_a_tool() -> None:
    assert list(parts(TOOL)) == [
        ("thought", "47*83"),
        ("call", "calculator {'expression': '47*83'}"),
        ("response", "3901"),
        ("answer", "3901"),
    ]


def test_answer_without_a_thought() -> None:
    assert list(parts("<think>\n\n</think>\n\n7<|im_end|>")) == [("answer", "7")]


def test_what_a_model_writes_is_not_markup() -> None:
    stream = io.StringIO()
    show(iter([("answer", "[bold red]not styled[/]")]), Console(file=stream, width=80))
    assert "[bold red]not styled[/]" in stream.getvalue()
