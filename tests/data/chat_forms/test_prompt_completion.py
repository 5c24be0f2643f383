"""TRL's prompt and completion."""

import pytest

from thinkling.data.chat_forms import prompt_completion
from thinkling.data.chat_forms.normal import BadRecord

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}


def test_text_and_messages_are_the_same_conversation() -> None:
    for prompt in ("hi", [USER]):
        for completion in ("hello", [ANSWER], ANSWER):
            record = {"prompt": prompt, "completion": completion}
            assert prompt_completion.read(record).messages == [USER, ANSWER]


def test_no_loss_falls_on_the_prompt() -> None:
    record = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER], "system": "s"}
    found = prompt_completion.read(record).messages
    assert found == [{"role": "system", "content": "s"}, USER, {**ANSWER, "loss": False}, USER, ANSWER]


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("no prompt", {"prompt": None, "completion": "b"}),
        ("no completion", {"prompt": "a"}),
        ("messages are not a list", {"prompt": 3, "completion": "b"}),
        ("a completion with a label, as for KTO: not a pair", {"prompt": "a", "completion": "b", "label": False}),
        ("reasoning beside a completion of messages", {"prompt": "a", "completion": [ANSWER], "reasoning": "hm"}),
        ("empty assistant turn", {"prompt": "a", "completion": ""}),
        ("no assistant turn", {"prompt": "a", "completion": [USER]}),
        ("no assistant turn is trained on", {"prompt": "a", "completion": [{**ANSWER, "train": 0}]}),
    ],
)
def test_what_is_rejected_and_why(expected: str, record: dict) -> None:
    with pytest.raises(BadRecord) as bad:
        prompt_completion.read(record)
    assert bad.value.reason == expected
