"""The source of conversations and pairs: detection, mapping, counts, names, drawing, and what is said before a run."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from thinkling.data.ledger import Ledger
from thinkling.errors import UserError
from thinkling.sources.base import bound
from thinkling.sources.conversations import ConversationsSource

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "what"}


def chat(number: int, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": str(number)}]
    return {"messages": turns, **more}


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def source(path: Path, ledger: Ledger | None = None, **fields: Any) -> ConversationsSource:
    made = ConversationsSource.model_validate({"type": "conversations", "path": str(path), **fields})
    bound({"chats": made})
    made.report_to(ledger or Ledger())
    return made


def answers(made: ConversationsSource, n: int | None = None, seed: int = 0) -> list[str]:
    return [conversation.messages[-1]["content"] for conversation in made.conversations(n, seed)]


def test_every_file_has_a_form_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", CHAT)
    write(tmp_path / "b.jsonl", {"instruction": "1+1", "input": "", "output": "2"})
    write(tmp_path / "c.jsonl", {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]})
    made = source(tmp_path)
    assert answers(made) == ["hello", "2", "y"]
    assert made.summary() == "3 files: 1 messages, 1 alpaca, 1 sharegpt"


def test_in_is_kept_plus_rejected_and_the_rejected_can_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    bad = {"messages": [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}]}
    lines = [json.dumps(CHAT), json.dumps(bad), "{broken", "", json.dumps({"other": 1}), "3", json.dumps(chat(1))]
    path.write_bytes("\n".join(lines).encode() + b'\n{"messages": "\xff"}\n')
    ledger = Ledger(tmp_path / "rejected.jsonl")
    assert answers(source(path, ledger)) == ["hello", "1"]
    reasons = {"unknown role": 1, "not JSON": 1, "no messages": 1, "not a JSON object": 1, "not UTF-8": 1}
    assert ledger.counts() == {"chats": {"in": 7, "kept": 2, "rejected": dict(sorted(reasons.items()))}}
    [first, *_, last] = map(json.loads, (tmp_path / "rejected.jsonl").read_text().splitlines())
    assert first == {
        "source": "chats",
        "where": f"{path}:2",
        "reason": "unknown role",
        "detail": "messages[1]: 'narrator'",
        "record": json.dumps(bad),
    }
    assert last["where"] == f"{path}:8"


def test_tools_and_loss_reach_the_conversation(tmp_path: Path) -> None:
    record = chat(1, tools=[{"name": "f"}])
    record["messages"] = [*record["messages"], *chat(2)["messages"]]
    record["messages"][1]["weight"] = 0
    [found] = source(write(tmp_path / "a.jsonl", record)).conversations(None, 0)
    assert found.tools == [{"type": "function", "function": {"name": "f"}}]
    assert [message.get("loss") for message in found.messages] == [None, False, None, None]
    assert found.source == "chats"


def test_pairs_are_read_and_counted(tmp_path: Path) -> None:
    ledger = Ledger()
    path = write(tmp_path / "pairs.jsonl", PAIR, {**PAIR, "rejected": "hello"}, {**PAIR, "prompt": "ho"})
    found = list(source(path, ledger).pairs(None, 0))
    assert [pair.messages[0]["content"] for pair in found] == ["hi", "ho"]
    assert ledger.counts()["chats"] == {"in": 3, "kept": 2, "rejected": {"chosen and rejected are equal": 1}}


def test_a_file_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    pairs = source(write(tmp_path / "pairs.jsonl", PAIR))
    with pytest.raises(
        UserError, match=r"sources\.chats: .*pairs\.jsonl is in the format preference, which contains pairs"
    ):
        list(pairs.conversations(None, 0))
    chats = source(write(tmp_path / "chats.jsonl", CHAT))
    for look in (lambda: list(chats.pairs(None, 0)), lambda: chats.check("pairs")):
        with pytest.raises(UserError, match="in the format messages, which contains conversations, not pairs"):
            look()
    chats.check("conversations", n=5)
    with pytest.raises(UserError, match="have no families"):
        chats.check("conversations", families=["sum"])


def test_names_are_the_records_own_or_a_hash_and_never_twice(tmp_path: Path) -> None:
    records = [chat(1, id="x"), chat(2, id=7), chat(3), chat(3), chat(4, id="x"), chat(5, id=True), chat(6, id="")]
    found = [conversation.id for conversation in source(write(tmp_path / "a.jsonl", *records)).conversations(None, 0)]
    assert found[:2] == ["x", "7"]
    assert found[3] == f"{found[2]}#4"
    assert found[4] == "x#5"
    assert len(found[2]) == len(found[5]) == len(found[6]) == 16
    assert len(set(found)) == 7


def test_conversations_drawn_depend_on_the_seed_alone_and_keep_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *map(chat, range(100)), {"messages": []})
    ledger = Ledger()
    first, again, other = (
        answers(source(path, ledger), 10),
        answers(source(path), 10),
        answers(source(path), 10, seed=1),
    )
    assert first == again == sorted(first, key=int)
    assert first != other
    assert set(first) <= set(answers(source(path), 11))
    assert ledger.counts()["chats"] == {"in": 101, "kept": 10, "rejected": {"no messages": 1, "not drawn": 90}}


def test_more_than_there_are_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"sources\.chats: 2 conversations were requested, but the source has only 1; request fewer"
    ):
        answers(source(write(tmp_path / "a.jsonl", CHAT)), 2)


def test_conversations_have_no_families(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="conversations have no families"):
        list(source(write(tmp_path / "a.jsonl", CHAT)).conversations(None, 0, ["sum"]))


@pytest.mark.parametrize(
    ("record", "fields", "message"),
    [
        (
            {"question": "a", "answer": "b"},
            {},
            "no records in any known format: its records have question, answer; map the keys in fields",
        ),
        (
            {"dialog": []},
            {"form": "messages"},
            r"no records in the format messages: its records have dialog; .*messages: dialog",
        ),
        (
            CHAT,
            {"form": "alpaca"},
            r"no records in the format alpaca: its records have messages; .*alpaca: instruction and output",
        ),
        (
            {"messages": [{"speaker": "a", "text": "b"}]},
            {},
            r"its messages have no role, only speaker, text; map the key in fields, for example \{role: speaker\}",
        ),
        (
            {"messages": [{"role": "user", "text": "b"}]},
            {},
            r"its messages have no content, only role, text; map the key in fields",
        ),
    ],
)
def test_a_form_that_cannot_be_told_is_said_before_a_run(
    tmp_path: Path, record: dict, fields: dict, message: str
) -> None:
    made = source(write(tmp_path / "a.jsonl", record), **fields)
    for look in (made.summary, made.digests, lambda: list(made.conversations(None, 0))):
        with pytest.raises(UserError, match=message) as error:
            look()
        assert "\n" not in str(error.value)


def test_mapped_names_are_detected_and_read(tmp_path: Path) -> None:
    turns = [{"speaker": "me", "text": "hi"}, {"speaker": "bot", "text": "hello"}]
    fields = {"messages": "dialog", "role": "speaker", "content": "text"}
    made = source(
        write(tmp_path / "a.jsonl", {"dialog": turns}), fields=fields, roles={"me": "user", "bot": "assistant"}
    )
    assert [message["role"] for message in next(made.conversations(None, 0)).messages] == ["user", "assistant"]
    made = source(write(tmp_path / "b.jsonl", {"q": "1+1", "a": "2"}), fields={"prompt": "q", "completion": "a"})
    assert answers(made) == ["2"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fields": {"dialog": "messages"}}, "no format has the field 'dialog'; use one of messages,"),
        ({"roles": {"bot": "gpt"}}, "unknown role 'gpt'; use one of system, user, assistant, tool"),
        ({"form": "chatml"}, "Input should be 'messages', 'sharegpt'"),
        ({"unanswered": "drop"}, "Input should be 'reject' or 'cut'"),
    ],
)
def test_wrong_fields_of_the_recipe(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source(tmp_path, **fields)


def test_unanswered_turns_are_cut_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": [*CHAT["messages"], {"role": "user", "content": "?"}]})
    ledger = Ledger()
    assert answers(source(path, ledger)) == []
    assert ledger.counts()["chats"]["rejected"] == {"ends with a user turn": 1}
    assert answers(source(path, unanswered="cut")) == ["hello"]


def test_files_of_every_kind_hold_the_same(tmp_path: Path) -> None:
    records = [chat(i, tools=None) for i in range(5)]
    paths = [tmp_path / name for name in ("a.json", "a.jsonl.gz", "a.parquet")]
    paths[0].write_text(json.dumps({"data": records}), encoding="utf-8")
    paths[1].write_bytes(gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records)))
    pq.write_table(pa.Table.from_pylist(records), paths[2])
    assert [answers(source(path)) for path in paths] == [["0", "1", "2", "3", "4"]] * 3


def test_nulls_that_a_table_puts_into_arguments_are_no_arguments(tmp_path: Path) -> None:
    """A table's column of objects has the keys of all rows: without care every call gets every argument as null."""
    calls = [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {"y": "2"}}]
    records = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}
        for call in calls
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(records), path)
    found = [c.messages[1]["tool_calls"][0]["function"]["arguments"] for c in source(path).conversations(None, 0)]
    assert found == [{"x": 1}, {"y": "2"}]


def test_a_file_without_any_sound_record_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{broken\n", encoding="utf-8")
    write(tmp_path / "b.jsonl", CHAT)
    ledger = Ledger()
    made = source(tmp_path, ledger)
    assert answers(made) == ["hello"]
    assert made.summary() == "2 files: 1 no record, 1 messages"
    assert ledger.counts()["chats"] == {"in": 2, "kept": 1, "rejected": {"not JSON": 1}}


def test_records_are_streamed(tmp_path: Path) -> None:
    """The first conversation is there before the file is read on."""
    path = write(tmp_path / "a.jsonl", *map(chat, range(30)))
    with path.open("a") as file:
        file.write('{"messages": \n')
    ledger = Ledger()
    stream = source(path, ledger).conversations(None, 0)
    next(stream)
    assert ledger.counts()["chats"]["in"] == 1
    assert sum(1 for _ in stream) == 29
    assert ledger.counts()["chats"]["in"] == 31


def test_the_reader_is_part_of_what_stages_are_hashed_with(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHAT)
    digests = source(path).digests()
    assert digests.keys() == {str(path), "reader"}


@pytest.mark.parametrize(
    ("file", "form", "n"),
    [
        ("alpaca_en_demo.json", "alpaca", 999),
        ("glaive_toolcall_en_demo.json", "sharegpt", 300),
        ("dpo_en_demo.json", "preference", 297),
        ("v1_sft_demo.jsonl", "messages", 500),
    ],
)
def test_real_files_are_read_whole_with_no_mapping(real_data: Path, file: str, form: str, n: int) -> None:
    path = real_data / "chats" / file
    ledger = Ledger()
    made = source(path, ledger)
    assert made.forms() == {path: form}
    found = list(made.pairs(None, 0) if form == "preference" else made.conversations(None, 0))
    assert len(found) == n
    assert ledger.counts()["chats"] == {"in": n, "kept": n, "rejected": {}}


def test_real_calls_have_their_tools_and_results(real_data: Path) -> None:
    made = source(real_data / "chats" / "glaive_toolcall_en_demo.json")
    calls = results = 0
    for conversation in made.conversations(None, 0):
        names = {tool["function"]["name"] for tool in conversation.tools}
        called = [c["function"]["name"] for m in conversation.messages for c in m.get("tool_calls", [])]
        assert set(called) <= names
        calls += len(called)
        results += sum(message["role"] == "tool" for message in conversation.messages)
    assert calls == results == 211
