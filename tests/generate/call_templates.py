"""Chat templates written in the manner of families that call tools in other formats, with tokenizers for them."""

from __future__ import annotations

from thinkling.data.chat_template import CHATML, ChatTemplate
from thinkling.data.tokenizer import SPECIAL_TOKENS, train_bpe
from thinkling.generate.renderer import Renderer

_HEADER = "'<|start_header_id|>' + {} + '<|end_header_id|>\n\n'"
LLAMA = (
    "{{ bos_token }}{% if tools %}{{ " + _HEADER.format("'system'") + " }}"
    '{{ \'Functions, called by {"name": …, "parameters": {…}}:\n\' }}'
    "{% for t in tools %}{{ t | tojson }}{{ '\n' }}{% endfor %}{{ '<|eot_id|>' }}{% endif %}"
    "{% for m in messages %}{{ " + _HEADER.format("('ipython' if m.role == 'tool' else m.role)") + " }}"
    "{% if m.tool_calls %}"
    "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    '{{ \'{"name": "\' + m.tool_calls[0].function.name + \'", "parameters": \' }}'
    "{{ m.tool_calls[0].function.arguments | tojson }}{{ '}' }}"
    "{% elif m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ " + _HEADER.format("'assistant'") + " }}{% endif %}"
)
_LLAMA_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)
_MISTRAL = (
    "{{ bos_token }}{% if tools %}{{ '[AVAILABLE_TOOLS] ' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.tool_calls %}CALLS{{ '</s>' }}"
    "{% elif m.role == 'tool' %}RESULT"
    "{% elif m.role == 'assistant' %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
)
_ID = "{% if c.id | length != 9 %}{{ raise_exception('an id has nine characters') }}{% endif %}"
MISTRAL = _MISTRAL.replace(
    "CALLS",
    "{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}" + _ID + '{{ \'{"name": "\' + c.function.name + \'", '
    '"arguments": \' }}{{ c.function.arguments | tojson }}{{ \', "id": "\' + c.id + \'"}\' }}'
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' }}",
).replace(
    "RESULT",
    "{{ '[TOOL_RESULTS] {\"content\": ' }}{{ m.content | tojson }}"
    "{{ ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}",
)
MISTRAL_ARGS = _MISTRAL.replace(
    "CALLS",
    "{% for c in m.tool_calls %}{{ '[TOOL_CALLS]' + c.function.name + '[CALL_ID]' + c.id + '[ARGS]' }}"
    "{{ c.function.arguments | tojson }}{% endfor %}",
).replace("RESULT", "{{ '[TOOL_RESULTS]' + m.tool_call_id + '[TOOL_CONTENT]' + m.content + '[/TOOL_RESULTS]' }}")
MISTRAL_SPECIAL = ("</s>", "<s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")
MISTRAL_SPECIAL += ("[TOOL_RESULTS]", "[/TOOL_RESULTS]")
QWEN = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% if tools %}{{ '<|im_start|>system\nTools:' }}{% for t in tools %}{{ '\n' }}{{ t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{% if not loop.first or m.content %}{{ '\n' }}{% endif %}"
    '{{ \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}{{ c.function.arguments | tojson }}'
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_NO_TAGS = tuple(token for token in SPECIAL_TOKENS if "tool" not in token)
TEMPLATES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ours": (CHATML, tuple(SPECIAL_TOKENS), "hermes"),
    "ours-text": (CHATML, _NO_TAGS, "hermes"),
    "qwen": (QWEN, tuple(SPECIAL_TOKENS), "hermes"),
    "qwen-text": (QWEN, _NO_TAGS, "hermes"),
    "llama": (LLAMA, _LLAMA_SPECIAL, "llama3"),
    "mistral": (MISTRAL, MISTRAL_SPECIAL, "mistral"),
    "mistral-args": (
        MISTRAL_ARGS,
        (*MISTRAL_SPECIAL, "[CALL_ID]", "[ARGS]", "[TOOL_CONTENT]"),
        "mistral",
    ),
}
"""Name → template, special tokens, the format of its calls. `-text`: tags that are no tokens."""
_TEXT = "".join(f'user assistant tool calculator sum A{i}B+5=6 expression name\n\n{{"<>=|\n' for i in range(60))


def renderer_of(name: str) -> Renderer:
    template, special, _ = TEMPLATES[name]
    bos = next((token for token in special if token in ("<|begin_of_text|>", "<s>")), "")
    tokenizer = train_bpe([_TEXT], 256 + len(special) + 40, special)
    return Renderer(tokenizer, ChatTemplate(template, name, {"bos_token": bos}))
