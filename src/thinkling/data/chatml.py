"""thinkling's own chat template: ChatML with reasoning and Hermes tools (docs/recipe.md, Model), similar to Qwen3's
template.

- The reasoning of rounds before the last user message is dropped. A tool response does not start a new round.
- In the last round, every assistant turn starts with a `<think>` block, which is empty if there is no reasoning. The
  exception is a turn without reasoning that follows a tool response: it has no `<think>` block.
- Loss covers the assistant's turns, from `<think>` to the token that ends the turn.
- Newlines before an answer are dropped.
"""

from __future__ import annotations

from thinkling.data.chat_rendering import ChatTemplate
from thinkling.data.tokenizer import IM_END, IM_START, Tokenizer

CHATML = r"""
{%- set last = namespace(user=-1) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- if tools or messages[0].role == 'system' -%}
    {{- '<|im_start|>system\n' -}}
    {%- if messages[0].role == 'system' -%}{{- messages[0].content -}}{%- endif -%}
    {%- if tools -%}
        {%- if messages[0].role == 'system' -%}{{- '\n\n' -}}{%- endif -%}
        {{- '# Tools\n\nYou may call the functions listed between <tools> and </tools>:\n<tools>' -}}
        {%- for tool in tools -%}{{- '\n' -}}{{- tool | tojson -}}{%- endfor -%}
        {{- '\n</tools>\n\nA call is a JSON object in these tags:\n<tool_call>\n' -}}
        {{- '{"name": <function name>, "arguments": <object of arguments>}\n</tool_call>' -}}
    {%- endif -%}
    {{- '<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}
        {{- '<|im_start|>user\n' -}}{{- message.content -}}{{- '<|im_end|>\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- generation -%}
        {%- set reads_tool = loop.index0 > 0 and loop.previtem.role == 'tool' -%}
        {%- if loop.index0 > last.user and (message.reasoning_content or not reads_tool) -%}
            {{- '<think>\n' -}}{{- message.reasoning_content or '' -}}{{- '\n</think>\n\n' -}}
        {%- endif -%}
        {%- set content = (message.content or '').lstrip('\n') -%}
        {{- content -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set function = call.function or call -%}
            {%- if content or not loop.first -%}{{- '\n' -}}{%- endif -%}
            {{- '<tool_call>\n{"name": ' -}}{{- function.name | tojson -}}{{- ', "arguments": ' -}}
            {%- if function.arguments is string -%}{{- function.arguments -}}
            {%- else -%}{{- function.arguments | tojson -}}
            {%- endif -%}
            {{- '}\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\n' -}}
    {%- elif message.role == 'tool' -%}
        {%- if loop.index0 == 0 or loop.previtem.role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
        {{- '\n<tool_response>\n' -}}{{- message.content -}}{{- '\n</tool_response>' -}}
        {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<|im_end|>\n' -}}{%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
""".strip()

OURS = ChatTemplate(CHATML, "chatml")


def ours_for(tokenizer: Tokenizer) -> ChatTemplate:
    """Returns thinkling's template, adapted to a tokenizer. The tokenizer's vocabulary is not extended.

    If the vocabulary lacks `<|im_start|>` or `<|im_end|>`, headers are plain text and a turn ends with the tokenizer's
    eos token. If the tokenizer prepends a token such as `<s>` to every text, the template starts with this token.
    """
    source = CHATML
    if not (tokenizer.has_token(IM_START) and tokenizer.has_token(IM_END)):
        source = source.replace(IM_END, _quotable(tokenizer.eos_token))
    if first := tokenizer.first_token:
        source = "{{- '" + _quotable(first) + "' -}}\n" + source
    return OURS if source == CHATML else ChatTemplate(source, "chatml")


def _quotable(token: str) -> str:
    """Returns a token's spelling, escaped for use in a quoted string of the template."""
    return token.replace("\\", "\\\\").replace("'", "\\'")
