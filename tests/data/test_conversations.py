"""Messages out of form, and conversations as Parquet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.chats import conversations, trusted, untrusted
from thinkling.data.conversations import (
    SCHEMA,
    Conversation,
    ConversationsWriter,
    checked,
    is_trained_on,
    read_conversations,
    rounds,
    write_conversations,
)
from thinkling.errors import UserError


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages"),
        ([{"role": "bot", "content": "x"}], "message 0: role is 'bot'"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "message 1: a system message"),
        ([{"role": "user", "content": None}], "message 0: content is NoneType"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 0: content is list"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "message 0: tool_calls in a message with role user"),
        ([{"role": "user", "content": "x", "nickname": "y"}], "message 0: unknown field 'nickname'"),
        ([{"role": "user", "content": "x", "name": "y"}], "message 0: name in a message with role user"),
        ([{"role": "assistant", "content": "x", "reasoning_content": 3}], "reasoning_content is int"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "a tool call has no function name"),
        (
            [{"role": "assistant", "content": "x", "tool_calls": [{"name": "f", "arguments": "{}"}]}],
            "the arguments of tool 'f' are not an object",
        ),
    ],
)
def test_messages_out_of_form(messages: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(messages)


@given(rows=st.lists(conversations(trusted | untrusted), max_size=6))
@settings(max_examples=30, deadline=None)
def test_parquet_keeps_every_conversation(rows: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("parquet") / "conversations.parquet"
    made = [
        Conversation(f"c{i}", checked(messages), "tasks", "p" if i % 2 else None) for i, messages in enumerate(rows)
    ]
    assert write_conversations(path, made, rows_per_group=2) == len(made)
    assert list(read_conversations(path)) == made
    assert pq.read_schema(path).equals(SCHEMA)
    again = path.with_name("again.parquet")
    write_conversations(again, made, rows_per_group=2)
    assert again.read_bytes() == path.read_bytes()


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match=r"broken\.parquet: cannot be read as Parquet"):
        list(read_conversations(broken))
    with pytest.raises(UserError, match=r"absent\.parquet: cannot be read"):
        list(read_conversations(tmp_path / "absent.parquet"))
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"id": ["1"]}), other)
    with pytest.raises(UserError, match=r"other\.parquet: no column 'problem_id'"):
        list(read_conversations(other))


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    for messages, message in (
        ([{"role": "bot", "content": "x"}], "conversation c7: conversation: message 0: role is 'bot'"),
        ([{"role": "assistant", "content": "x", "tool_calls": "{"}], "conversation c7: "),
    ):
        row = {"id": "c7", "problem_id": None, "messages": messages, "source": "s"}
        pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), path)
        with pytest.raises(UserError, match=message):
            list(read_conversations(path))
    with pytest.raises(UserError, match="c8: conversation: no messages"):
        write_conversations(path, [Conversation("c8", [], "s")])


def turns(roles: str) -> list[dict]:
    """A letter per message: s, u, a, t, and n for an assistant's turn without loss."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "n": "assistant"}
    return [{"role": names[r], "content": str(i), **({"loss": False} if r == "n" else {})} for i, r in enumerate(roles)]


def letters(messages) -> str:
    return "".join("n" if m.get("loss") is False else m["role"][0] for m in messages)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("ua", ["ua"]),
        ("suaua", ["sua", "sunua"]),
        ("uatauata", ["uata", "untnuata"]),
        ("uuaua", ["uua", "uunua"]),  # two messages of the user's are one round
        ("auaua", ["aua", "nunua"]),  # a greeting belongs to the first round
        ("unua", ["unua"]),  # a round that is not trained on is no sample
        ("uau", ["ua"]),
        ("su", ["su"]),
    ],
)
def test_a_sample_per_round(roles: str, expected: list[str]) -> None:
    whole = Conversation("c", turns(roles), "s", "p", [{"type": "function"}])
    found = list(rounds(whole))
    assert [letters(c.messages) for c in found] == expected
    assert all((c.source, c.problem_id, c.tools) == ("s", "p", whole.tools) for c in found)
    assert len({c.id for c in found}) == len(found)


@settings(deadline=None)
@given(st.text("uatn", min_size=1, max_size=12))
def test_each_turn_is_trained_on_in_one_sample(roles: str) -> None:
    messages = turns(roles)
    found = list(rounds(Conversation("c", messages, "s")))
    trained = sorted(m["content"] for c in found for m in c.messages if is_trained_on(m))
    assert trained == sorted(m["content"] for m in messages if is_trained_on(m))
    for one in found:
        assert [m["content"] for m in one.messages] == [m["content"] for m in messages[: len(one.messages)]]


def write_one_by_one(path: Path, conversations: list[Conversation], rows_per_group: int) -> None:
    with ConversationsWriter(path, rows_per_group) as writer:
        for conversation in conversations:
            writer.add(conversation)


def test_writing_one_by_one_is_writing_all(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    conversations = [Conversation(f"c{i}", turns, "chats") for i in range(7)]
    write_conversations(tmp_path / "all.parquet", conversations, 3)
    write_one_by_one(tmp_path / "one.parquet", conversations, 3)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()
    wrong = Conversation("c8", [{"role": "user", "content": 1}], "chats")
    with pytest.raises(UserError, match="c8"):
        write_one_by_one(tmp_path / "bad.parquet", [conversations[0], wrong], 1)
    write_one_by_one(tmp_path / "none.parquet", [], 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.parquet", "one.parquet"]
