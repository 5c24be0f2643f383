"""Where the answer of a completion is found."""

import pytest

from thinkling.verify.verdict import read_answer

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "1+1"}}\n</tool_call>'
REPLY = "<|im_end|>\n<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>\nB+5=6\n</think>\n\n6<|im_end|>", "6"),
        ("<think>\n\n</think>\n\n6<|im_end|>\n", "6"),
        ("6", "6"),
        ("  a \n b ", "a b"),
        ("B</think>c</think> 7 <|endoftext|>", "7"),
        (f"<think>\n1+1\n</think>\n\n{CALL}{REPLY}2<|im_end|>", "2"),
        (f"<think>\n1+1\n</think>\n\n{CALL}{REPLY}<think>\nso\n</think>\n\n2<|im_end|>", "2"),
        ("", None),
        ("<|im_end|>", None),
        ("<think>\nB+5=6", None),
        ("<think>\nB+5=6\n</think>\n\n", None),
        (f"<think>\n1+1\n</think>\n\n{CALL}", None),
        (f"<think>\n1+1\n</think>\n\n{CALL}{REPLY}", None),
        (f"<think>\n1+1\n</think>\n\n{CALL}{REPLY}<think>\nso", None),
    ],
)
def test_read_answer(completion: str, answer: str | None) -> None:
    assert read_answer(completion) == answer
