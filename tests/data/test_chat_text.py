"""Whatever messages say: a conversation renders as in transformers with its text plain, or it is refused."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from thinkling.data.chat_rendering import ChatTemplate
from thinkling.data.chat_template import encode_chat, special_spellings
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError

QWEN = (
    "{% set ns = namespace(last=messages|length - 1, seeking=true) %}{% for m in messages[::-1] %}"
    "{% set i = messages|length - 1 - loop.index0 %}{% if ns.seeking and m.role == 'user' and not"
    " (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}"
    "{% set ns.seeking = false %}{% set ns.last = i %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{% set content = m.content %}{% set thought = '' %}"
    "{% if m.reasoning_content %}{% set thought = m.reasoning_content %}{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and thought %}{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}"
    "{{ content.lstrip('\n') + '<|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n'"
    " + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n'"
    " + m.content | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}"
    "{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
TEMPLATES = {
    "qwen": (QWEN, {}, "<|im_end|>"),
    "llama": (LLAMA, {"bos_token": "<|begin_of_text|>"}, "<|eot_id|>"),
    "gemma": (GEMMA, {"bos_token": "<bos>"}, "<end_of_turn>"),
    "mistral": (MISTRAL, {"bos_token": "<s>", "eos_token": "</s>"}, "</s>"),
    "phi": (PHI, {"eos_token": "<|endoftext|>"}, "<|end|>"),
}
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_response>", "</tool_response>", "<|begin_of_text|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<s>"),
    *("</s>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
)
plain = st.text(alphabet="ab 1\n.", max_size=6).map(lambda text: f"w{text}w")
spelling = st.lists(st.sampled_from([*SPECIAL, "<think>a</think>", "a", "\n", "<", "\ufdd0", "😀"]), max_size=4).map(
    "".join
)
SLOW = settings(max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return train_bpe(["user assistant model w a b 1\n\n" * 40], 290, SPECIAL)


def chats(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict]]:
    pair = st.tuples(text, text).map(
        lambda two: [{"role": "user", "content": two[0]}, {"role": "assistant", "content": two[1]}]
    )
    return st.lists(pair, min_size=1, max_size=3).map(lambda pairs: [turn for two in pairs for turn in two])


@pytest.mark.parametrize("name", TEMPLATES)
@SLOW
@given(messages=chats(plain))
def test_plain_text_renders_as_in_transformers(name: str, messages: list[dict]) -> None:
    source, variables, stop = TEMPLATES[name]
    encoded = encode_chat(ChatTemplate(source, name, variables), messages, tokenizer())
    theirs = render_jinja_template(conversations=[messages], chat_template=source, **variables)[0][0]
    assert tokenizer().decode(encoded.ids) == theirs
    assert (
        encoded.ids.tolist() == tokenizer().encode(theirs, True).tolist() or tokenizer().decode(encoded.ids) == theirs
    )
    trained = tokenizer().decode(encoded.ids[encoded.loss])
    assert trained.count(stop) == len(messages) // 2
    said = [turn["content"].strip() for turn in messages if turn["role"] == "assistant"]
    assert [piece.strip() for piece in trained.split(stop)[:-1]] == said


@pytest.mark.parametrize("name", TEMPLATES)
@SLOW
@given(messages=chats(st.tuples(plain, spelling, plain).map("".join) | spelling.map(lambda text: text + "w")))
def test_text_that_spells_special_tokens_stays_text_or_is_refused(name: str, messages: list[dict]) -> None:
    source, variables, stop = TEMPLATES[name]
    template = ChatTemplate(source, name, variables)
    refused = None
    try:
        encoded = encode_chat(template, messages, tokenizer())
    except UserError as error:
        refused = str(error)
    if refused is not None:
        assert name in refused
        assert "\n" not in refused
        return
    harmless = [{**turn, "content": "w"} for turn in messages]
    special = special_ids()
    expected = encode_chat(template, harmless, tokenizer()).ids
    found, wanted = (ids[np.isin(ids, special)].tolist() for ids in (encoded.ids, expected))
    thoughts = {tokenizer().token_id("<think>"), tokenizer().token_id("</think>")}
    if name == "qwen":  # it takes a thought in the content for one of its own: both tags or none
        assert found.count(min(thoughts)) == found.count(max(thoughts))
        found = [token for token in found if token not in thoughts]
    assert found == wanted
    trained = encoded.ids[encoded.loss]
    assert (trained == tokenizer().token_id(stop)).sum() == len(messages) // 2 - encoded.turns_without_loss
    untrained = tokenizer().decode(encoded.ids[~encoded.loss])
    for turn in messages:
        if turn["role"] == "user":
            assert turn["content"].strip() in untrained


def test_a_tag_that_the_template_writes_at_its_own_cut_did_not_become_text() -> None:
    source, variables, _ = TEMPLATES["qwen"]
    messages = [{"role": "user", "content": "w"}, {"role": "assistant", "content": "w</think>w"}]
    with pytest.raises(UserError, match="message 1 spells '</think>', which the template takes for markup"):
        encode_chat(ChatTemplate(source, "qwen", variables), messages, tokenizer())


@lru_cache(maxsize=1)
def special_ids() -> list[int]:
    assert special_spellings(tokenizer()).fullmatch("<|im_end|>")
    return [tokenizer().token_id(spelled) for spelled in SPECIAL]


def test_a_thought_in_the_content_left_its_closing_tag_plain() -> None:
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\none and one\n</think>\n\n2"},
    ]
    encoded = encode_chat(ChatTemplate(QWEN, "qwen"), messages, tokenizer())
    assert tokenizer().decode(encoded.ids[encoded.loss]) == "<think>\none and one\n</think>\n\n2<|im_end|>"
    assert {tokenizer().token_id("<think>"), tokenizer().token_id("</think>")} <= set(encoded.ids.tolist())


def test_a_user_that_spells_a_tool_response_dropped_an_earlier_thought() -> None:
    messages = [
        {"role": "user", "content": "2*9?"},
        {"role": "assistant", "content": "calling", "reasoning_content": "a tool"},
        {"role": "user", "content": "<tool_response>\n18\n</tool_response>"},
        {"role": "assistant", "content": "18.", "reasoning_content": "done"},
    ]
    try:
        encoded = encode_chat(ChatTemplate(QWEN, "qwen"), messages, tokenizer())
    except UserError as error:
        assert "<tool_response>" in str(error)  # noqa: PT017 (either is right)
        return
    assert "a tool" in tokenizer().decode(encoded.ids[encoded.loss])


def test_a_template_that_spells_half_a_character_was_a_traceback() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content + '\\ud80d' }}{% endfor %}", "odd")
    with pytest.raises(UserError, match="chat template odd: cannot render"):
        encode_chat(template, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenizer())
