"""Turns of the assistant in templates without `{% generation %}`: families in small, in our own words."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.chat_template import ChatTemplate, encode_chat, encode_prompt
from thinkling.data.conversations import tool_call
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError


@dataclass(frozen=True)
class Family:
    """A template, the special tokens of its tokenizer, and what is trained of ROUNDS."""

    template: str
    special: tuple[str, ...]
    trained: list[str]
    variables: dict[str, str] = field(default_factory=lambda: {"bos_token": "<s>", "eos_token": "</s>"})


HEADER = """{{ bos_token }}
{%- for m in messages %}{{ '<|header|>' + m.role + '<|text|>\n' + m.content | trim + '<|over|>' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant<|text|>\n' }}{% endif %}"""
INST = """{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% elif m.role == 'user' %}
{{- '[ASK] ' }}{% if messages[0].role == 'system' and loop.last %}{{ messages[0].content + '\n' }}{% endif %}
{{- m.content + ' [/ASK]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"""
REWRITES = """{% set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}{{ '<|from|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and loop.index0 > ns.last %}
{{- '<think>\n' + (m.reasoning_content or '') + '\n</think>\n' }}{% endif %}
{{- m.content }}{% for c in m.tool_calls or [] %}{{ '<call>' + c | tojson + '</call>' }}{% endfor %}{{ '<|to|>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|from|>assistant\n<think>\n' }}{% endif %}"""
EOS_LAST = """{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""
NO_END = """{{ '[gMASK]' }}{% for m in messages %}{% if m.role == 'tool' %}{{ '<|observation|>\n' + m.content }}
{%- elif m.role == 'user' %}{{ '<|user|>\n' + m.content }}{% else %}{{ '<|assistant|>\n' + m.content }}
{%- for c in m.tool_calls or [] %}{{ '<call>' + c.function.name + '</call>' }}{% endfor %}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
ONE_OF_TWO_ENDS = """{% for m in messages %}{{ '<|start|>' + m.role }}{% if m.role == 'assistant' %}
{%- if loop.last and not add_generation_prompt and m.thinking %}
{{- '<|channel|>aside<|message|>' + m.thinking + '<|end|><|start|>assistant' }}
{%- endif %}{{ '<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}
{%- else %}{{ '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""
TWO_TOKENS = """{% for m in messages %}
{{- '<|turn|><|' + m.role + '|><|in|>' + m.content + '<|out|><|turn_over|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|turn|><|assistant|><|in|>' }}{% endif %}"""

FAMILIES = {
    "header": Family(HEADER, ("<|header|>", "<|text|>", "<|over|>"), ["one<|over|>", "two<|over|>"]),
    "inst": Family(INST, ("[ASK]", "[/ASK]"), [" one</s>", " two</s>"]),
    "rewrites": Family(
        REWRITES,
        ("<|from|>", "<|to|>", "<think>", "</think>", "<call>", "</call>"),
        ["one<|to|>", "\n</think>\ntwo<|to|>"],  # the prompt itself opens the reasoning
    ),
    "eos last": Family(EOS_LAST, ("<|user|>", "<|assistant|>", "<|end|>"), ["one<|end|>", "two<|end|>"]),
    "no end": Family(
        NO_END,
        ("[gMASK]", "<|user|>", "<|assistant|>", "<|observation|>", "<call>", "</call>"),
        ["one<|user|>", "two<|user|>"],  # the second is added, as no token would end the turn
    ),
    "one of two ends": Family(
        ONE_OF_TWO_ENDS,
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
        ["<|channel|>final<|message|>one<|end|>", "<|channel|>final<|message|>two<|return|>"],
    ),
    "two tokens": Family(
        TWO_TOKENS,
        ("<|turn|>", "<|in|>", "<|out|>", "<|turn_over|>", "<|user|>", "<|assistant|>"),
        ["one<|out|><|turn_over|>", "two<|out|><|turn_over|>"],
    ),
}
ROUNDS = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": "second"},
    {"role": "assistant", "content": "two"},
]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {
        name: train_bpe(
            ["a b "], 259 + len(family.special), special_tokens=["<|endoftext|>", "<s>", "</s>", *family.special]
        )
        for name, family in FAMILIES.items()
    }


def template_of(name: str) -> ChatTemplate:
    return ChatTemplate(FAMILIES[name].template, name, FAMILIES[name].variables)


def runs(template: ChatTemplate, messages: list, tokenizer: Tokenizer) -> list[str]:
    """The stretches that carry loss."""
    found = encode_chat(template, messages, tokenizer)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], found.loss, [False]])))
    return [tokenizer.decode(found.ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("name", FAMILIES)
def test_turns_of_a_family(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    family, tokenizer, template = FAMILIES[name], tokenizers[name], template_of(name)
    assert runs(template, ROUNDS, tokenizer) == family.trained
    ids = encode_chat(template, ROUNDS, tokenizer).ids
    added = "<|user|>" if name == "no end" else ""
    assert tokenizer.decode(ids) == template.render(ROUNDS) + added
    stop = family.trained[-1][family.trained[-1].rindex("<") :]
    assert ids[encode_chat(template, ROUNDS, tokenizer).loss][-1] == tokenizer.token_id(stop)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_text_of_others_is_trained_on(name: str, data: st.DataObject, tokenizers: dict[str, Tokenizer]) -> None:
    """Whatever messages hold, special spellings included: the user's text carries no loss, the assistant's all does."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="uaUA"), min_size=1, max_size=8)
    spelled = st.sampled_from([*FAMILIES[name].special, "</s>", " \n", "it"])
    part = st.lists(text | spelled, min_size=1, max_size=4).map("".join).filter(lambda t: t.strip() == t)
    messages = [
        {"role": role, "content": mark + data.draw(part) + mark}
        for role, mark in (("user", "U"), ("assistant", "A"), ("user", "U"), ("assistant", "A"))
    ]
    tokenizer, template = tokenizers[name], template_of(name)
    found = runs(template, messages, tokenizer)
    assert len(found) == 2
    for run, message in zip(found, messages[1::2], strict=True):
        assert message["content"] in run
        assert "U" not in run
    if name != "rewrites":  # its prompt opens reasoning that an earlier turn does not have
        prompt, ids = encode_prompt(template, messages[:1], tokenizer), encode_chat(template, messages, tokenizer).ids
        assert prompt.tolist() == ids[: len(prompt)].tolist()


def test_reasoning_where_earlier_turns_are_rewritten(tokenizers: dict[str, Tokenizer]) -> None:
    thoughts = [{**m, "reasoning_content": "hm " + m["content"]} if m["role"] == "assistant" else m for m in ROUNDS]
    found = encode_chat(template_of("rewrites"), thoughts, tokenizers["rewrites"])
    assert runs(template_of("rewrites"), thoughts, tokenizers["rewrites"]) == ["hm two\n</think>\ntwo<|to|>"]
    assert found.turns_without_loss == 1
    assert runs(template_of("one of two ends"), thoughts, tokenizers["one of two ends"]) == [
        "<|channel|>aside<|message|>hm two<|end|><|start|>assistant<|channel|>final<|message|>two<|return|>"
    ]


def test_a_system_message_that_moves_to_the_last_question(tokenizers: dict[str, Tokenizer]) -> None:
    source = INST.replace("and loop.last %}", "and loop.index0 == (messages | length) - 2 %}")
    template = ChatTemplate(source, "moves", FAMILIES["inst"].variables)
    messages = [{"role": "system", "content": "briefly"}, *ROUNDS]
    assert "[ASK] briefly\nsecond [/ASK]" in template.render(messages)
    assert runs(template, messages, tokenizers["inst"]) == FAMILIES["inst"].trained


def test_calls(tokenizers: dict[str, Tokenizer]) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [tool_call("calculator", {})]}
    messages = [ROUNDS[0], call, {"role": "tool", "content": "12"}, ROUNDS[1]]
    assert runs(template_of("no end"), messages, tokenizers["no end"]) == [
        "<call>calculator</call><|observation|>",
        "one<|user|>",
    ]
    assert runs(template_of("no end"), messages[:2], tokenizers["no end"]) == ["<call>calculator</call><|observation|>"]
    trained = runs(template_of("rewrites"), messages, tokenizers["rewrites"])
    assert trained[0].startswith("\n</think>\n<call>{")
    assert trained[0].endswith("</call><|to|>")


def test_issue_templates_010_end_of_text_after_the_last_turn(tokenizers: dict[str, Tokenizer]) -> None:
    ids = encode_chat(template_of("eos last"), ROUNDS, tokenizers["eos last"]).ids
    assert tokenizers["eos last"].decode(ids).endswith("two<|end|>\n</s>")


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}",  # no token ends a turn
        "{% for m in messages | reverse %}{{ m.content + '</s>' }}{% endfor %}",
        "{{ messages | map(attribute='content') | join(' ') }}</s>",
    ],
)
def test_what_cannot_be_told_is_refused(source: str, tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(UserError, match=r"chat template vague: cannot tell which text of message 1 .* thinkling"):
        encode_chat(ChatTemplate(source, "vague"), ROUNDS, tokenizers["inst"])


def test_a_conversation_that_the_assistant_opens(tokenizers: dict[str, Tokenizer]) -> None:
    messages = [{"role": "assistant", "content": "hello"}, *ROUNDS]
    assert runs(template_of("header"), messages, tokenizers["header"]) == [
        "hello<|over|>",
        "one<|over|>",
        "two<|over|>",
    ]
