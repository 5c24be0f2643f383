"""Our template against transformers; prompts, parsing and Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.chat_template import CHATML
from thinkling.data.conversations import (
    SCHEMA,
    Conversation,
    checked,
    parse_assistant,
    read_conversations,
    render,
    render_prompt,
    render_tool_turn,
    tool_call,
    write_conversations,
)
from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.errors import UserError

TEXT = "".join(f'user assistant calculator sum A{i}B+5=6 expression arguments name\n\n{{"<>=\n' for i in range(40))
TOOLS = [
    {"type": "function", "function": {"name": "calculator", "description": "sums", "parameters": {"type": "object"}}}
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([TEXT], 310, chat_template=CHATML)


@pytest.fixture(scope="module")
def oracle(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return AutoTokenizer.from_pretrained(directory)


def conversations(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict]]:
    """Any conversation of our form: system or not, one to three rounds, tools used or not."""
    calls = st.lists(st.builds(tool_call, text, st.dictionaries(text, text, max_size=2)), min_size=1, max_size=2)
    thought = st.none() | text

    @st.composite
    def draw_round(draw: st.DrawFn) -> list[dict]:
        turns: list[dict] = [{"role": "user", "content": draw(text)}]
        for _ in range(draw(st.integers(0, 2))):
            made = draw(calls)
            turns.append(
                {"role": "assistant", "content": draw(text), "reasoning_content": draw(thought), "tool_calls": made}
            )
            turns += [{"role": "tool", "content": draw(text)} for _ in made]
        return [*turns, {"role": "assistant", "content": draw(text), "reasoning_content": draw(thought)}]

    system = st.just([]) | text.map(lambda content: [{"role": "system", "content": content}])
    rounds = st.lists(draw_round(), min_size=1, max_size=3)
    return st.tuples(system, rounds).map(lambda parts: [*parts[0], *(turn for turns in parts[1] for turn in turns)])


trusted = st.text(alphabet='abz AB09+=\n\t"\\{}<>éж', max_size=12)
untrusted = st.lists(
    st.sampled_from([*SPECIAL_TOKENS, "a", "\n", "<", "\ufdd0", "\ufdd01", "assistant\n"]), max_size=5
).map("".join)


@given(messages=conversations(trusted), tools=st.sampled_from([None, TOOLS]))
@settings(max_examples=80, deadline=None)
def test_ids_and_loss_equal_transformers(messages: list, tools: Any, tokenizer: Tokenizer, oracle: Any) -> None:
    ids, loss = render(messages, tokenizer, tools)
    expected = oracle.apply_chat_template(
        checked(messages), tools=tools, return_assistant_tokens_mask=True, return_dict=True
    )
    assert ids.tolist() == expected["input_ids"]
    assert loss.astype(int).tolist() == expected["assistant_masks"]
    assert (ids.dtype, loss.dtype) == (np.int32, np.bool_)


@given(messages=conversations(untrusted))
@settings(max_examples=80, deadline=None)
def test_text_never_becomes_markup(messages: list, tokenizer: Tokenizer, oracle: Any) -> None:
    ids, loss = render(messages, tokenizer)
    tame = [{**m, "content": "x"} for m in messages]
    for message in tame:
        if message.get("reasoning_content"):
            message["reasoning_content"] = "x"
        message.pop("tool_calls", None)
    calls = sum(len(m.get("tool_calls") or []) for m in messages)
    special = {tokenizer.token_id(token) for token in SPECIAL_TOKENS}
    tags = {tokenizer.token_id(token) for token in ("<tool_call>", "</tool_call>")}
    wanted = [i for i in render(tame, tokenizer)[0].tolist() if i in special]
    found = [i for i in ids.tolist() if i in special]
    assert [i for i in found if i not in tags] == wanted
    assert sum(i in tags for i in found) == 2 * calls
    assert int((ids[loss] == tokenizer.im_end_id).sum()) == sum(m["role"] == "assistant" for m in messages)
    keys = [key for m in messages for call in m.get("tool_calls") or [] for key in call["function"]["arguments"]]
    if "<" not in str(keys):  # transformers trusts keys
        expected = oracle.apply_chat_template(checked(messages), sanitize_control_tokens=True, return_dict=True)
        assert ids.tolist() == expected["input_ids"]


@given(messages=conversations(trusted | untrusted))
@settings(max_examples=60, deadline=None)
def test_prompts_are_prefixes_within_the_last_round(messages: list, tokenizer: Tokenizer) -> None:
    ids, loss = render(messages, tokenizer)
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    for i in range(last_user + 1, len(messages)):
        if messages[i]["role"] != "assistant":
            continue
        prompt = render_prompt(messages[:i], tokenizer)
        assert prompt.tolist() == ids[: len(prompt)].tolist()
        assert not loss[len(prompt) - 1]
        assert loss[len(prompt)]


@given(results=st.lists(trusted | untrusted, min_size=1, max_size=3))
@settings(deadline=None)
def test_tool_turn_continues_a_sampled_call(results: list[str], tokenizer: Tokenizer) -> None:
    call = tool_call("calculator", {"expression": "1+1"})
    asked = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answered = [*asked, *({"role": "tool", "content": result} for result in results)]
    after = render_prompt(answered, tokenizer).tolist()
    closing = max(
        i for i, token in enumerate(render(asked, tokenizer)[0]) if token == tokenizer.token_id("</tool_call>")
    )
    assert after[closing + 1 :] == render_tool_turn(results, tokenizer).tolist()


def test_the_stated_form(tokenizer: Tokenizer) -> None:
    call = tool_call("calculator", {"expression": "47*83"})
    messages = [
        {"role": "user", "content": "calc 1+2"},
        {"role": "assistant", "content": "3", "reasoning_content": "old"},
        {"role": "user", "content": "calc 47*83"},
        {"role": "assistant", "content": "", "reasoning_content": "47*83", "tool_calls": [call]},
        {"role": "tool", "content": "3901"},
        {"role": "assistant", "content": "3901"},
    ]
    ids, loss = render(messages, tokenizer)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\ncalc 1+2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n"
        "<|im_start|>user\ncalc 47*83<|im_end|>\n<|im_start|>assistant\n<think>\n47*83\n</think>\n\n<tool_call>\n"
        '{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3901\n</tool_response><|im_end|>\n<|im_start|>assistant\n3901<|im_end|>\n"
    )
    trained = tokenizer.decode(ids[loss])
    assert trained == (
        "3<|im_end|><think>\n47*83\n</think>\n\n<tool_call>\n"
        '{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call><|im_end|>3901<|im_end|>'
    )


def test_no_thought_and_tools_in_the_system_turn(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    text = tokenizer.decode(render(messages, tokenizer)[0])
    assert text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\na<|im_end|>\n"
    listed = tokenizer.decode(render(messages, tokenizer, TOOLS)[0])
    assert listed.startswith("<|im_start|>system\n# Tools\n")
    assert '\n<tools>\n{"type": "function", "function": {"name": "calculator",' in listed
    assert listed.endswith(text)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages"),
        ([{"role": "bot", "content": "x"}], "message 0: role is 'bot'"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "message 1: a system message"),
        ([{"role": "user", "content": None}], "message 0: content is NoneType"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 0: content is list"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "message 0: tool_calls in a message of role user"),
        ([{"role": "user", "content": "x", "name": "y"}], "message 0: unknown field 'name'"),
        ([{"role": "assistant", "content": "x", "reasoning_content": 3}], "reasoning_content is int"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "a tool call has no function name"),
        (
            [{"role": "assistant", "content": "x", "tool_calls": [{"name": "f", "arguments": "{}"}]}],
            "the arguments of tool 'f' are not an object",
        ),
    ],
)
def test_messages_out_of_form(messages: list, message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=message):
        render(messages, tokenizer)


answers = st.text(alphabet='abz AB09+=\n\t"\\{}éж', max_size=12)


@given(
    thought=answers,
    content=answers.map(lambda text: text.lstrip("\n")),
    calls=st.lists(
        st.builds(tool_call, answers, st.dictionaries(answers, answers | st.integers(), max_size=2)), max_size=2
    ),
)
@settings(deadline=None)
def test_parsing_reads_back_what_render_wrote(thought: str, content: str, calls: list, tokenizer: Tokenizer) -> None:
    turn = {"role": "assistant", "content": content, "reasoning_content": thought, "tool_calls": calls}
    ids, loss = render([{"role": "user", "content": "q"}, turn], tokenizer)
    assert parse_assistant(tokenizer.decode(ids[loss])) == (thought, content, calls)


CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("3901<|im_end|>\n", ("", "3901", [])),
        ("<think>\nB+5=6", ("B+5=6", "", [])),
        ("B+5=6\n</think>\n\n6", ("B+5=6", "6", [])),
        ("<think>\na</think>b\n</think>\n\n6", ("a</think>b", "6", [])),
        (f"{CALL}", ("", "", [tool_call("f", {})])),
        (f"so\n{CALL}\n{CALL}", ("", "so", [tool_call("f", {})] * 2)),
        ("<tool_call>\n{}\n</tool_call>", ("", "<tool_call>\n{}\n</tool_call>", [])),
    ],
)
def test_parsing(text: str, parsed: tuple) -> None:
    assert parse_assistant(text) == parsed


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "f", "arguments": {}',
        '{"name": "f"}',
        '{"name": "f", "arguments": "x"}',
        '{"name": 3, "arguments": {}}',
        '{"name": "f", "arguments": {}, "id": 1}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '[{"name": "f", "arguments": {}}]',
        "[" * 100_000,
    ],
)
def test_a_malformed_call_is_no_call(body: str) -> None:
    text = f"<tool_call>\n{body}\n</tool_call>"
    assert parse_assistant(text) == ("", text, [])


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
    with pytest.raises(UserError, match=r"broken\.parquet: not readable as Parquet"):
        list(read_conversations(broken))
    with pytest.raises(UserError, match=r"absent\.parquet: not readable"):
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
