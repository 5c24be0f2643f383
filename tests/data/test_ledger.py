"""in = kept + rejected, and what was rejected can be read."""

import json
from pathlib import Path

import pytest

from thinkling.data.ledger import FILE, Ledger


def test_counts_add_up_and_the_rejected_are_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / FILE)
    ledger.keep("chats", 2)
    ledger.reject("chats", "a.jsonl:3", "no messages", {"x": "\ud800"})
    ledger.reject("chats", "a.jsonl:4", "not JSON", "{")
    ledger.reject("other", "b.jsonl:1", "not JSON", "{")
    assert ledger.counts() == {
        "chats": {"in": 4, "kept": 2, "rejected": {"no messages": 1, "not JSON": 1}},
        "other": {"in": 1, "kept": 0, "rejected": {"not JSON": 1}},
    }
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["where"] for line in lines] == ["a.jsonl:3", "a.jsonl:4", "b.jsonl:1"]


def test_a_resumed_stage_writes_the_file_again(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / FILE)
        ledger.reject("chats", "a.jsonl:3", "not JSON", "{")
    assert (tmp_path / FILE).read_text(encoding="utf-8").count("\n") == 1


def test_no_file_where_nothing_is_rejected(tmp_path: Path) -> None:
    Ledger(tmp_path / FILE).keep("chats")
    assert not (tmp_path / FILE).exists()


def test_sound_records_that_are_left_out_are_counted_and_not_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / FILE)
    ledger.keep("chats")
    ledger.leave_out("chats", "not drawn", 3)
    ledger.leave_out("other", "not drawn", 0)
    assert ledger.counts() == {"chats": {"in": 4, "kept": 1, "rejected": {"not drawn": 3}}}
    assert not (tmp_path / FILE).exists()


def test_a_record_that_is_no_json_is_rejected_like_any_other(tmp_path: Path) -> None:
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    ledger = Ledger(tmp_path / FILE)
    for record in ({"a": deep}, {"a": 10**5000}, {(1, 2): "x"}, {"a": b"\xff"}):
        ledger.reject("chats", "a.parquet:1", "nested too deeply", record, "messages[0]")
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text(encoding="utf-8").splitlines()]
    assert [line["record"] for line in lines[:3]] == ["a record that cannot be written as JSON, with 1 fields"] * 3
    assert (lines[3]["record"], lines[3]["detail"]) == ('{"a": "b\'\\\\xff\'"}', "messages[0]")


def test_a_note_is_written_and_not_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rejected.jsonl")
    ledger.keep("chats")
    ledger.note("chats", "conversations.parquet", "longer than sequence_length", {"id": "7"})
    assert ledger.counts() == {"chats": {"in": 1, "kept": 1, "rejected": {}}}
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["record"] == '{"id": "7"}'


def test_a_resumed_stage_goes_on_from_its_counts_and_keeps_the_file(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "rejected.jsonl")
    first.keep("chats", 2)
    first.reject("chats", "a.jsonl:1", "no messages", {})
    again = Ledger(tmp_path / "rejected.jsonl")
    again.restore(first.counts())
    again.keep("chats", 2)
    again.reject("chats", "a.jsonl:1", "no messages", {})
    assert again.counts() == first.counts()
    again.reject("others", "b.jsonl:1", "no messages", {})
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 2


def test_counts_are_restored_before_anything_is_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rejected.jsonl")
    ledger.keep("chats")
    with pytest.raises(ValueError, match="counted before"):
        ledger.restore({"chats": {"kept": 1, "rejected": {}}})
