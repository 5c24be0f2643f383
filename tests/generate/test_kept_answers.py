"""Answers of a served model that a killed run had been given."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinkling.generate.backends import Reply
from thinkling.generate.client import ServedModel, read_kept


@pytest.mark.parametrize("damage", [b"\x00", b"x"])
def test_a_damaged_answer_is_asked_again_and_the_others_are_kept(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "answers.log.jsonl"
    model = ServedModel("http://127.0.0.1:1", "m", kept=path)
    replies = {f"key {i}": Reply(f"answer {i}", "", "stop") for i in range(3)}
    for key, reply in replies.items():
        model._keep(key, reply)
    assert read_kept(path) == replies
    path.write_bytes(path.read_bytes().replace(b"answer 1", b"answer " + damage))
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        found = read_kept(path)
    assert found == {key: reply for key, reply in replies.items() if key != "key 1"}
