"""Answers of a served model that a killed run had been given."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinkling.generate.answers import KeptAnswers, read_kept
from thinkling.generate.backends import Reply


@pytest.mark.parametrize("damage", [b"\x00", b"x"])
def test_a_damaged_answer_is_asked_again_and_the_others_are_kept(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "answers.log.jsonl"
    answers = KeptAnswers(path)
    replies = {f"key {i}": Reply(f"answer {i}", "", "stop") for i in range(3)}
    for key, reply in replies.items():
        answers.keep(key, reply, None)
    assert read_kept(path) == {key: (reply, None) for key, reply in replies.items()}
    path.write_bytes(path.read_bytes().replace(b"answer 1", b"answer " + damage))
    with pytest.warns(UserWarning, match="line 2 is corrupt"):
        found = read_kept(path)
    assert sorted(found) == ["key 0", "key 2"]
