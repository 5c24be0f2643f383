"""Prompts, ends of answers and what is read in completions, for our template and for foreign families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.chats import conversations, trusted, untrusted
from tests.generate.families import FAMILIES, TEXT, renderer_of
from thinkling.data.chat_template import CHATML, OURS, ChatTemplate
from thinkling.data.conversations import checked, tool_call
from thinkling.data.reading import Call, Part, Reading
from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.tasks.problem import Problem

TOOLS = [
    {"type": "function", "function": {"name": "calculator", "description": "sums", "parameters": {"type": "object"}}}
]
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "1+1"}}\n</tool_call>'
PROBLEM = Problem("0", "arithmetic", "What is 1+1?", "2", "", "exact", ("calculator",))


@dataclass
class Written:
    tokens: Sequence[int]
    forced: Sequence[bool]


def written(renderer: Renderer, *texts: str) -> Written:
    """The model's texts with a tool's turn, whose response is 2, between each two."""
    tokens: list[int] = []
    forced: list[bool] = []
    for i, text in enumerate(texts):
        turn = renderer.tool_turn(["2"]) if i else []
        own = renderer.tokenizer.encode(text, markup=True).tolist()
        tokens += [*turn, *own]
        forced += [True] * len(turn) + [False] * len(own)
    return Written(tokens, forced)


def read(renderer: Renderer, *texts: str) -> Reading:
    return renderer.read(written(renderer, *texts))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([TEXT], 310, chat_template=CHATML)


@pytest.fixture(scope="module")
def ours(tokenizer: Tokenizer) -> Renderer:
    return Renderer(tokenizer, OURS)


@pytest.fixture(scope="module")
def renderers() -> dict[str, Renderer]:
    return {name: renderer_of(name) for name in FAMILIES}


@pytest.fixture(scope="module")
def oracle(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return AutoTokenizer.from_pretrained(directory)


def dropped(messages: list) -> list[bool]:
    """Of each assistant's message, whether it has reasoning and a user's message follows."""
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    return [
        i < last_user and bool((m.get("reasoning_content") or "").strip())
        for i, m in enumerate(messages)
        if m["role"] == "assistant"
    ]


def without_dropped(messages: list, masks: list[int]) -> list[int]:
    """Transformers' mask, which has a run per turn, without the turns whose reasoning is dropped."""
    edges = np.flatnonzero(np.diff(np.array([0, *masks, 0])))
    for start, end, is_dropped in zip(edges[::2], edges[1::2], dropped(messages), strict=True):
        if is_dropped:
            masks[start:end] = [0] * (end - start)
    return masks


@given(messages=conversations(trusted), tools=st.sampled_from([None, TOOLS]))
@settings(max_examples=80, deadline=None)
def test_ids_and_loss_equal_transformers(messages: list, tools: Any, tokenizer: Tokenizer, oracle: Any) -> None:
    ids, loss = Renderer(tokenizer, OURS).encode(messages, tools)
    expected = oracle.apply_chat_template(
        checked(messages), tools=tools, return_assistant_tokens_mask=True, return_dict=True
    )
    assert ids.tolist() == expected["input_ids"]
    assert loss.astype(int).tolist() == without_dropped(messages, expected["assistant_masks"])
    assert (ids.dtype, loss.dtype) == (np.int32, np.bool_)


@given(messages=conversations(untrusted))
@settings(max_examples=80, deadline=None)
def test_text_never_becomes_markup(messages: list, tokenizer: Tokenizer, oracle: Any) -> None:
    ids, loss = Renderer(tokenizer, OURS).encode(messages)
    tame = [{**m, "content": "x"} for m in messages]
    for message in tame:
        if message.get("reasoning_content"):
            message["reasoning_content"] = "x"
        message.pop("tool_calls", None)
    calls = sum(len(m.get("tool_calls") or []) for m in messages)
    special = {tokenizer.token_id(token) for token in SPECIAL_TOKENS}
    tags = {tokenizer.token_id(token) for token in ("<tool_call>", "</tool_call>")}
    wanted = [i for i in Renderer(tokenizer, OURS).encode(tame)[0].tolist() if i in special]
    found = [i for i in ids.tolist() if i in special]
    assert [i for i in found if i not in tags] == wanted
    assert sum(i in tags for i in found) == 2 * calls
    assert int((ids[loss] == tokenizer.im_end_id).sum()) == dropped(messages).count(False)
    keys = [key for m in messages for call in m.get("tool_calls") or [] for key in call["function"]["arguments"]]
    if "<" not in str(keys):  # transformers trusts keys
        expected = oracle.apply_chat_template(checked(messages), sanitize_control_tokens=True, return_dict=True)
        assert ids.tolist() == expected["input_ids"]


@given(messages=conversations(trusted | untrusted))
@settings(max_examples=60, deadline=None)
def test_prompts_are_prefixes_within_the_last_round(messages: list, tokenizer: Tokenizer) -> None:
    ids, loss = Renderer(tokenizer, OURS).encode(messages)
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    for i in range(last_user + 1, len(messages)):
        if messages[i]["role"] != "assistant":
            continue
        prompt = Renderer(tokenizer, OURS).prompt(messages[:i])
        assert prompt.tolist() == ids[: len(prompt)].tolist()
        assert not loss[len(prompt) - 1]
        assert loss[len(prompt)]


@given(results=st.lists(trusted | untrusted, min_size=1, max_size=3))
@settings(deadline=None)
def test_tool_turn_continues_a_sampled_call(results: list[str], tokenizer: Tokenizer) -> None:
    call = tool_call("calculator", {"expression": "1+1"})
    asked = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answered = [*asked, *({"role": "tool", "content": result} for result in results)]
    after = Renderer(tokenizer, OURS).prompt(answered).tolist()
    ids = Renderer(tokenizer, OURS).encode(asked)[0]
    closing = max(i for i, token in enumerate(ids) if token == tokenizer.token_id("</tool_call>"))
    assert after[closing + 1 :] == Renderer(tokenizer, OURS).tool_turn(results)


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
    ids, loss = Renderer(tokenizer, OURS).encode(messages)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\ncalc 1+2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n"
        "<|im_start|>user\ncalc 47*83<|im_end|>\n<|im_start|>assistant\n<think>\n47*83\n</think>\n\n<tool_call>\n"
        '{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3901\n</tool_response><|im_end|>\n<|im_start|>assistant\n3901<|im_end|>\n"
    )
    trained = tokenizer.decode(ids[loss])
    assert trained == (
        "<think>\n47*83\n</think>\n\n<tool_call>\n"
        '{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call><|im_end|>3901<|im_end|>'
    )


def test_no_reasoning_and_tools_in_the_system_turn(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    text = tokenizer.decode(Renderer(tokenizer, OURS).encode(messages)[0])
    assert text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\na<|im_end|>\n"
    listed = tokenizer.decode(Renderer(tokenizer, OURS).encode(messages, TOOLS)[0])
    assert listed.startswith("<|im_start|>system\n# Tools\n")
    assert '\n<tools>\n{"type": "function", "function": {"name": "calculator",' in listed
    assert listed.endswith(text)


# Reading: our template.


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        (["<think>\nB+5=6\n</think>\n\n6<|im_end|>"], "6"),
        (["<think>\n\n</think>\n\n6<|im_end|>\n"], "6"),
        (["6"], "6"),
        (["  a \n b "], "a \n b"),
        (["B</think>c</think> 7 <|endoftext|>"], "7"),
        ([f"<think>\n1+1\n</think>\n\n{CALL}", "2<|im_end|>"], "2"),
        ([f"<think>\n1+1\n</think>\n\n{CALL}", "<think>\nso\n</think>\n\n2<|im_end|>"], "2"),
        ([""], None),
        (["<|im_end|>"], None),
        (["<think>\nB+5=6"], None),
        (["<think>\nB+5=6\n</think>\n\n"], None),
        ([f"<think>\n1+1\n</think>\n\n{CALL}"], None),
        ([f"<think>\n1+1\n</think>\n\n{CALL}", ""], None),
        ([f"<think>\n1+1\n</think>\n\n{CALL}", "<think>\nso"], None),
        (["6<|im_start|>assistant\n7<|im_end|>"], None),
    ],
)
def test_where_the_answer_is(ours: Renderer, texts: list[str], answer: str | None) -> None:
    found = read(ours, *texts)
    assert found.answer == answer
    assert found.line == (None if answer is None else " ".join(answer.split()))
    assert found.well_formed == (answer is not None)
    assert found.text == ours.tokenizer.decode(written(ours, *texts).tokens)


def test_everything_in_a_completion_with_tools(ours: Renderer) -> None:
    found = read(ours, f"<think>\n1+1\n</think>\n\nI ask.\n{CALL}", f"{CALL}", "<think>\nso\n</think>\n\n2<|im_end|>")
    call = Call("calculator", {"expression": "1+1"})
    assert (found.reasoning, found.answer, found.calls, found.well_formed) == ("1+1\n\nso", "2", (call, call), True)
    shown = Part("call", "calculator {'expression': '1+1'}")
    assert found.parts == (
        Part("reasoning", "1+1"),
        shown,
        Part("answer", "I ask."),
        Part("response", "2"),
        shown,
        Part("response", "2"),
        Part("reasoning", "so"),
        Part("answer", "2"),
    )


answers = st.text(alphabet='abz AB09+=\n\t"\\{}éж', max_size=12)


@given(
    reasoning=answers,
    content=answers.map(lambda text: text.lstrip("\n")),
    calls=st.lists(
        st.builds(tool_call, answers, st.dictionaries(answers, answers | st.integers(), max_size=2)), max_size=2
    ),
)
@settings(deadline=None)
def test_reading_gives_back_what_encode_wrote(reasoning: str, content: str, calls: list, ours: Renderer) -> None:
    turn = {"role": "assistant", "content": content, "reasoning_content": reasoning, "tool_calls": calls}
    ids, loss = ours.encode([{"role": "user", "content": "q"}, turn])
    tokens = ids[loss].tolist()
    found = ours.read(Written(tokens, [False] * len(tokens)))
    assert found.reasoning == (reasoning if reasoning.strip() else "")
    assert [tool_call(call.name, call.arguments) for call in found.calls] == calls
    assert [part.text for part in found.parts if part.kind == "answer"] == ([content] if content.strip() else [])
    assert found.answer == (None if calls else content.strip() or None)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer", "calls"),
    [
        ("B+5=6\n</think>\n\n6", "B+5=6", "6", 0),
        ("<think>\na</think>b\n</think>\n\n6", "a</think>b", "6", 0),
        (f"so\n{CALL}\n{CALL}", "", None, 2),
        ("<tool_call>\n{}\n</tool_call>", "", None, 0),
    ],
)
def test_reasoning_and_calls(ours: Renderer, text: str, reasoning: str, answer: str | None, calls: int) -> None:
    found = read(ours, text)
    assert (found.reasoning, found.answer, len(found.calls)) == (reasoning, answer, calls)


def test_an_answer_may_spell_tags(ours: Renderer) -> None:
    """A tag is a token: an answer about tags, whose characters are plain tokens, is read whole."""
    spelled = "Write </think> and <tool_call> or <|im_start|> like this."
    tokens = [
        *ours.tokenizer.encode("<think>\nso\n</think>\n\n", markup=True).tolist(),
        *ours.tokenizer.encode(spelled).tolist(),
        ours.tokenizer.im_end_id,
    ]
    found = ours.read(Written(tokens, [False] * len(tokens)))
    assert (found.reasoning, found.answer, found.well_formed) == ("so", spelled, True)


def test_a_vocabulary_without_the_tags_is_read_by_their_spelling(renderers: dict[str, Renderer]) -> None:
    found = read(renderers["llama3"], "<think>\nB+5=6\n</think>\n\n6<|eot_id|>")
    assert (found.reasoning, found.answer, found.well_formed) == ("B+5=6", "6", True)
    assert read(renderers["gemma"], "<think>\nB+5=6").answer is None


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
        "[" * 1000,
    ],
)
def test_a_malformed_call_is_no_call(ours: Renderer, body: str) -> None:
    text = f"<tool_call>\n{body}\n</tool_call>"
    found = read(ours, text, "2<|im_end|>")
    assert (found.calls, found.answer, found.well_formed) == ((), "2", False)
    assert found.parts[0] == Part("answer", text)


def test_a_prompt_that_opens_the_reasoning_is_taken_into_account(tokenizer: Tokenizer) -> None:
    end = r"assistant\n' -}}{%- endif -%}"
    opening = CHATML.replace(end, end.replace(r"\n", r"\n<think>\n"))
    assert opening != CHATML
    renderer = Renderer(tokenizer, ChatTemplate(opening, "opens"))
    assert read(renderer, "B+5=6").answer is None
    assert read(renderer, "B+5=6").reasoning == "B+5=6"
    found = read(renderer, "B+5=6\n</think>\n\n6<|im_end|>")
    assert (found.reasoning, found.answer) == ("B+5=6", "6")


# Reading: every family.


@pytest.mark.parametrize("name", FAMILIES)
def test_end_tokens_of_every_family_are_not_part_of_an_answer(renderers: dict[str, Renderer], name: str) -> None:
    """F1: the tag of a family other than ChatML stayed in the answer, so that `exact` never said right."""
    renderer, family = renderers[name], FAMILIES[name]
    for end in (family.end_of_turn, renderer.tokenizer.decode([renderer.tokenizer.end_of_text_id])):
        assert renderer.tokenizer.token_id(end) in renderer.stop_ids
        assert read(renderer, f"42{end}").answer == "42"


def test_an_end_token_of_the_generation_config_alone_is_not_part_of_an_answer() -> None:
    """F1: the eos ids of generation_config.json end an answer whatever they are called."""
    family = FAMILIES["phi"]
    tokenizer = train_bpe([TEXT], 300, (*family.special, "<|return|>"))
    named = Tokenizer(tokenizer._files, "named", [tokenizer.token_id("<|return|>")])
    assert read(Renderer(named, ChatTemplate(family.template, "phi")), "42<|return|>").answer == "42"


@pytest.mark.parametrize("name", FAMILIES)
@given(content=st.text(alphabet="abz AB09+=\n<|>é", min_size=1, max_size=12).map(str.strip).filter(bool))
@settings(max_examples=25, deadline=None)
def test_what_a_family_encodes_is_read_back(renderers: dict[str, Renderer], name: str, content: str) -> None:
    renderer = renderers[name]
    user = {"role": "user", "content": "q"}
    ids, loss = renderer.encode([user, {"role": "assistant", "content": content}])
    prompt = renderer.prompt([user])
    assert ids[: len(prompt)].tolist() == prompt.tolist()
    tokens = ids[loss].tolist()
    assert tokens[-1] in renderer.stop_ids
    found = renderer.read(Written(tokens, [False] * len(tokens)))
    assert (found.answer, found.well_formed) == (content, True)


@pytest.mark.parametrize("name", ["llama3", "gemma", "phi"])
def test_an_answer_that_opens_another_turn_is_not_readable(renderers: dict[str, Renderer], name: str) -> None:
    opening = {"llama3": "<|start_header_id|>", "gemma": "<start_of_turn>", "phi": "<|assistant|>"}[name]
    assert read(renderers[name], f"4{opening}2{FAMILIES[name].end_of_turn}").answer is None


def test_a_tools_turn_is_written_by_the_models_own_template(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["llama3-hermes"]
    turn = renderer.tokenizer.decode(renderer.tool_turn(["2"]))
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert turn == f"<|eot_id|>{header.format('tool')}2<|eot_id|>{header.format('assistant')}"
    found = read(renderer, CALL, "2<|eot_id|>")
    assert [(part.kind, part.text) for part in found.parts[1:]] == [("response", "2"), ("answer", "2")]
    assert found.well_formed


@given(result=trusted | untrusted)
@settings(max_examples=40, deadline=None)
def test_no_tool_writes_a_special_token(result: str, renderers: dict[str, Renderer]) -> None:
    for name in ("chatml", "llama3-hermes"):
        renderer = renderers[name]
        special = {renderer.tokenizer.token_id(token) for token in FAMILIES[name].special}
        wanted = [i for i in renderer.tool_turn(["x"]) if i in special]
        assert [i for i in renderer.tool_turn([result]) if i in special] == wanted


# Tools in prompts.


def test_tools_are_announced_where_the_problem_says_so(ours: Renderer) -> None:
    """F6: no prompt ever listed the tools."""
    announced = ours.tokenizer.decode(ours.prompt_of(PROBLEM))
    assert announced.startswith("<|im_start|>system\n# Tools\n")
    assert '"name": "calculator"' in announced
    silent = ours.prompt_of(replace(PROBLEM, announce_tools=False))
    assert silent.tolist() == ours.prompt([{"role": "user", "content": PROBLEM.question}]).tolist()


def test_a_model_that_cannot_be_told_of_tools_is_named(renderers: dict[str, Renderer]) -> None:
    with pytest.raises(UserError, match=r"template llama3: it does not write tool calls in a known format \(hermes"):
        renderers["llama3"].prompt_of(PROBLEM)
    with pytest.raises(UserError, match="chat template llama3-hermes: it does not write the tool 'calculator'"):
        renderers["llama3-hermes"].prompt_of(PROBLEM)
    with pytest.raises(UserError, match="unknown tool 'search'; use one of calculator"):
        renderers["chatml"].prompt_of(replace(PROBLEM, tools=("search",)))
    assert len(renderers["llama3"].prompt_of(replace(PROBLEM, announce_tools=False)))


def test_a_template_without_calls_is_named_when_a_tool_answers(tokenizer: Tokenizer) -> None:
    renderer = Renderer(tokenizer, ChatTemplate(FAMILIES["phi"].template, "phi"))
    with pytest.raises(UserError, match="chat template phi: it does not write a tool call in a known format"):
        renderer.tool_turn(["2"])


def test_a_directory_without_a_chat_template_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    Tokenizer({n: f for n, f in tokenizer._files.items() if n != "chat_template.jinja"}).save(tmp_path)
    with pytest.raises(UserError, match="no chat template"):
        Renderer.load(tmp_path)
