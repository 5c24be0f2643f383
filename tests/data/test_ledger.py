"""in = kept + rejected, and what was rejected can be read."""

import json
from pathlib import Path

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
    assert again.counts() == first.counts()
    again.reject("others", "b.jsonl:1", "no messages", {})
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 2
