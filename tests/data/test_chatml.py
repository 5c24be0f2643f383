"""Our template on vocabularies that were not made for it."""

import json

import pytest

from thinkling.data.chat_template import CHATML, OURS, encode_chat, encode_prompt, ours_for
from thinkling.data.conversations import tool_call
from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe

MESSAGES = [
    {"role": "user", "content": "q</s><|im_end|>"},
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [tool_call("f", {"a": 1})]},
    {"role": "tool", "content": "r"},
    {"role": "assistant", "content": "a"},
]


def foreign(bos: bool) -> Tokenizer:
    """A Llama-like vocabulary, whose tokenizer puts <s> before every text."""
    trained = train_bpe(["a b "], 258, special_tokens=["<s>", "</s>"])
    spec = json.loads(trained._files["tokenizer.json"])
    if bos:
        pieces = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        tokens = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
        spec["post_processor"] = {
            "type": "TemplateProcessing",
            "single": pieces,
            "pair": pieces,
            "special_tokens": tokens,
        }
    files = {**trained._files, "tokenizer.json": json.dumps(spec).encode()}
    files["tokenizer_config.json"] = b'{"bos_token": "<s>", "eos_token": "</s>"}'
    return Tokenizer(files)


@pytest.mark.parametrize("bos", [False, True])
def test_a_vocabulary_without_its_tokens(bos: bool) -> None:
    tokenizer = foreign(bos)
    template = ours_for(tokenizer)
    found = encode_chat(template, MESSAGES, tokenizer)
    assert tokenizer.decode(found.ids) == ("<s>" if bos else "") + (
        "<|im_start|>user\nq</s><|im_end|></s>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n"
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call></s>\n'
        "<|im_start|>user\n<tool_response>\nr\n</tool_response></s>\n<|im_start|>assistant\na</s>\n"
    )
    end = tokenizer.token_id("</s>")
    assert found.ids.tolist().count(end) == 4  # the user's is plain text
    assert found.ids[found.loss].tolist().count(end) == 2
    assert tokenizer.decode(found.ids[found.loss]).endswith("a</s>")
    assert found.ids.max() < tokenizer.vocab_size
    prompt = encode_prompt(template, MESSAGES[:1], tokenizer)
    assert found.ids[: len(prompt)].tolist() == prompt.tolist()


def test_a_vocabulary_that_was_made_for_it_gets_it_unchanged() -> None:
    assert ours_for(train_bpe(["a b "], 265, special_tokens=SPECIAL_TOKENS)) is OURS
    assert OURS.source == CHATML
