"""Model families that the renderer must read: how each opens and ends turns, with tokenizers that have their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinkling.data.chat_template import CHATML, ChatTemplate
from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.generate.renderer import Renderer

TEXT = "".join(f'user assistant model calculator sum A{i}B+5=6 expression name\n\n{{"<>=|\n' for i in range(60))
_LLAMA_TURNS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{ m.content | trim }}CALLS{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_CALLS = "{% for c in m.tool_calls or [] %}{{ '<tool_call>\n' + (c.function | tojson) + '\n</tool_call>' }}{% endfor %}"


@dataclass(frozen=True)
class Family:
    """A chat template, the special tokens of its vocabulary, and the one that ends a turn."""

    template: str
    special: tuple[str, ...]
    end_of_turn: str
    variables: dict[str, str] = field(default_factory=dict)


_LLAMA_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA_BOS = {"bos_token": "<|begin_of_text|>"}
FAMILIES = {
    "chatml": Family(CHATML, tuple(SPECIAL_TOKENS), "<|im_end|>"),
    "llama3": Family(_LLAMA_TURNS.replace("CALLS", ""), _LLAMA_SPECIAL, "<|eot_id|>", _LLAMA_BOS),
    "llama3-hermes": Family(
        _LLAMA_TURNS.replace("CALLS", _CALLS),
        (*_LLAMA_SPECIAL, "<tool_call>", "</tool_call>"),
        "<|eot_id|>",
        _LLAMA_BOS,
    ),
    "gemma": Family(
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        {"bos_token": "<bos>"},
    ),
    "phi": Family(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
    ),
    "mistral": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + '</s>' }}{% endif %}{% endfor %}",
        ("</s>", "<s>", "[INST]", "[/INST]"),
        "</s>",
        {"bos_token": "<s>"},
    ),
}


def tokenizer_of(family: Family) -> Tokenizer:
    return train_bpe([TEXT], 256 + len(family.special) + 40, family.special)


def renderer_of(name: str) -> Renderer:
    family = FAMILIES[name]
    return Renderer(tokenizer_of(family), ChatTemplate(family.template, name, family.variables))
