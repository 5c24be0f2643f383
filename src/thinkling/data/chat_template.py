"""Chat templates: our own ChatML one and those of foreign model directories, all rendered in jinja2's sandbox.

What a message says is data, what the template writes is markup. Message text that spells a special token is therefore
fenced before rendering and encoded as plain characters: no user, tool or web page can close a turn or open reasoning.
Which characters a model is trained on is marked by `{% generation %}` blocks, as in transformers, or is worked out
from the rendered text where a template has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import jinja2
import jinja2.nodes
import numpy as np
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from thinkling.errors import UserError

Message = Mapping[str, Any]

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
"""Our template: ChatML, thinking, Hermes tools (docs/recipe.md, Model), in the manner of Qwen3.

- Thinking of rounds before the last user message is dropped; a tool's response opens no new round.
- In the last round every assistant turn opens with a `<think>` block, empty where there is no reasoning; one turn goes
  without: the turn that reads a tool's response and has no reasoning of its own.
- Loss falls on the assistant's turns, from `<think>` to `<|im_end|>`. Newlines before an answer are dropped.
"""

# A noncharacter opens every mark inside rendered text, and _LITERAL stands for itself in a message: nothing is lost.
_ESC = "\ufdd0"
_LITERAL, _PLAIN_ON, _PLAIN_OFF, _LOSS_ON, _LOSS_OFF = (f"{_ESC}{code}" for code in "01234")
_MARK = re.compile(f"({_ESC}[0-4])")


class Encoder(Protocol):
    """The part of data.tokenizer.Tokenizer that rendering needs."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, markup: bool = False) -> np.ndarray: ...

    def encode_batch(self, texts: Sequence[str], markup: bool | Sequence[bool] = False) -> list[np.ndarray]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class ChatTemplate:
    """A jinja chat template. `name` stands in error messages; `variables`: extra names it reads, such as bos_token."""

    source: str
    name: str
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)

    @cached_property
    def compiled(self) -> jinja2.Template:
        """Raises UserError where the source is no jinja template."""
        try:
            return _environment().from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"chat template {self.name}: line {error.lineno}: {error.message}") from error

    @cached_property
    def has_generation_marks(self) -> bool:
        """Whether the template itself says which text the assistant writes."""
        return re.search(r"\{%[-+]?\s*generation\b", self.source) is not None

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None, add_generation_prompt: bool = False
    ) -> str:
        """Rendered text; marks that this module put into messages are still in it. UserError where the template fails,
        which includes a template that asks for the date: the clock is no input of a run."""
        context = {**self.variables, "messages": messages, "tools": tools or None}
        try:
            return self.compiled.render(add_generation_prompt=add_generation_prompt, **context)
        except UserError:
            raise
        except Exception as error:  # a foreign template may fail in any way, as in a call on a missing field
            raise UserError(f"chat template {self.name}: cannot render this conversation ({error})") from error


OURS = ChatTemplate(CHATML, "chatml")


def load_chat_template(directory: Path) -> ChatTemplate:
    """The template of a Hugging Face directory: chat_template.jinja, or `chat_template` in tokenizer_config.json.

    Raises UserError where there is neither."""
    config_path = directory / "tokenizer_config.json"
    config = _read_json(config_path)
    template_path = directory / "chat_template.jinja"
    if template_path.is_file():
        source, name = template_path.read_text(encoding="utf-8"), template_path
    else:
        source, name = config.get("chat_template"), config_path
        if isinstance(source, list):  # named templates; "default" is the one that transformers takes
            source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
    if not isinstance(source, str):
        raise UserError(f"{directory}: no chat template; add chat_template.jinja")
    named = {**_read_json(directory / "special_tokens_map.json"), **config}
    variables = {}
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = named.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            variables[role] = token
    return ChatTemplate(source, str(name), variables)


def encode_chat(
    template: ChatTemplate, messages: Sequence[Message], tokenizer: Encoder, tools: Sequence[Message] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, int32 (T,), and which of them carry loss, bool (T,).

    Raises UserError naming the template where it cannot render, or where nothing tells what the assistant wrote."""
    spellings = special_spellings(tokenizer)
    messages, tools = _fence(messages, spellings), _fence(tools, spellings)
    text = template.render(messages, tools)
    if not template.has_generation_marks:
        text = _mark_loss(template, messages, tools, text, spellings)
    return _encode(text, tokenizer)


def encode_prompt(
    template: ChatTemplate, messages: Sequence[Message], tokenizer: Encoder, tools: Sequence[Message] | None = None
) -> np.ndarray:
    """Token ids, int32 (T,), that end where the assistant starts to write."""
    spellings = special_spellings(tokenizer)
    text = template.render(_fence(messages, spellings), _fence(tools, spellings), add_generation_prompt=True)
    return _encode(text, tokenizer)[0]


@lru_cache(maxsize=8)
def special_spellings(tokenizer: Encoder) -> re.Pattern[str]:
    """Matches every text that this tokenizer's markup turns into a special token; found by asking for each token."""
    spelled = sorted({tokenizer.decode([i]) for i in range(tokenizer.vocab_size)} - {""})
    marked, plain = tokenizer.encode_batch(spelled, True), tokenizer.encode_batch(spelled, False)
    special = [s for s, a, b in zip(spelled, marked, plain, strict=True) if not np.array_equal(a, b)]
    return re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)) or r"(?!)")


def _fence(value: Any, spellings: re.Pattern[str]) -> Any:
    """The value with each special spelling in its strings put between marks; so too in keys, which a tool call makes
    up, but not in names, by which the template finds its fields."""
    if isinstance(value, str):
        return spellings.sub(rf"{_PLAIN_ON}\g<0>{_PLAIN_OFF}", value.replace(_ESC, _LITERAL))
    if isinstance(value, Mapping):
        return {
            key if key.isidentifier() else _fence(key, spellings): _fence(inner, spellings)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_fence(inner, spellings) for inner in value]
    return value


def _encode(text: str, tokenizer: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Ids and loss mask of marked text. Text is cut where loss begins or ends, as it is when the model writes it."""
    pieces: list[tuple[str, bool, bool]] = []
    plain, loss, gathered = False, False, ""
    for part in _MARK.split(text):
        if part == _LITERAL or not part.startswith(_ESC):
            gathered += _ESC if part == _LITERAL else part
            continue
        pieces.append((gathered, plain, loss))
        gathered = ""
        if part in (_PLAIN_ON, _PLAIN_OFF):
            plain = part == _PLAIN_ON
        else:
            loss = part == _LOSS_ON
    pieces = [piece for piece in [*pieces, (gathered, plain, loss)] if piece[0]]
    ids = [_encode_piece(tokenizer, piece, not plain, first=i == 0) for i, (piece, plain, _) in enumerate(pieces)]
    mask = [np.full(len(part), loss) for part, (_, _, loss) in zip(ids, pieces, strict=True)]
    empty = np.empty(0, dtype=np.int32)
    return np.concatenate([empty, *ids]), np.concatenate([empty.astype(bool), *mask])


def _encode_piece(tokenizer: Encoder, piece: str, markup: bool, first: bool) -> np.ndarray:
    """A tokenizer that puts a space before every text (SentencePiece) must not do so inside a chat: it gets the piece
    after a newline, whose tokens are then taken away, as transformers does."""
    ids = tokenizer.encode(piece, markup)
    if first or not _prefixes_space(tokenizer):
        return ids
    newline, together = tokenizer.encode("\n", markup), tokenizer.encode("\n" + piece, markup)
    return together[len(newline) :] if np.array_equal(together[: len(newline)], newline) else ids


@lru_cache(maxsize=8)
def _prefixes_space(tokenizer: Encoder) -> bool:
    alone, after = tokenizer.encode("a"), tokenizer.encode("\na")
    return not np.array_equal(after[len(after) - len(alone) :], alone)


def _mark_loss(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Message] | None,
    text: str,
    spellings: re.Pattern[str],
) -> str:
    """Puts loss marks around what the assistant wrote, for a template without `{% generation %}`."""
    count = sum(message["role"] == "assistant" for message in messages)
    spans = _spans_by_prefix(template, messages, tools, text, spellings)
    if spans is None:
        spans = _spans_by_header(template, text, count, spellings)
    if spans is None:
        raise UserError(
            f"chat template {template.name}: cannot tell which text of this conversation the assistant wrote; "
            "put {% generation %} … {% endgeneration %} around it in the template"
        )
    for start, end in reversed(spans):
        text = f"{text[:start]}{_LOSS_ON}{text[start:end]}{_LOSS_OFF}{text[end:]}"
    return text


def _spans_by_prefix(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Message] | None,
    text: str,
    spellings: re.Pattern[str],
) -> list[tuple[int, int]] | None:
    """A turn is what the conversation up to it has more than the prompt before it; None where an earlier turn is
    rendered otherwise once later ones follow."""
    spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if i == 0:
            return None
        prompt = template.render(messages[:i], tools, add_generation_prompt=True)
        through = template.render(messages[: i + 1], tools)
        if not (text.startswith(prompt) and text.startswith(through) and len(prompt) < len(through)):
            return None
        # the newline after the token that ends a turn is the template's, and never sampled
        shorter = through.rstrip()
        ends = [match.end() for match in spellings.finditer(shorter)]
        spans.append((len(prompt), len(shorter) if ends and ends[-1] == len(shorter) else len(through)))
    return spans


def _spans_by_header(
    template: ChatTemplate, text: str, count: int, spellings: re.Pattern[str]
) -> list[tuple[int, int]] | None:
    """A turn runs from the generation prompt to the next token that ends a turn, both learned from a conversation of
    one round. Fenced spellings do not match, so no message can fake a turn. For templates that drop old reasoning."""
    user = {"role": "user", "content": "x"}
    asked, prompted = template.render([user]), template.render([user], add_generation_prompt=True)
    answered = template.render([user, {"role": "assistant", "content": _LITERAL}])
    header = prompted.removeprefix(asked)
    ending = spellings.search(answered.rpartition(_LITERAL)[2])
    if not prompted.startswith(asked) or not spellings.search(header) or ending is None:
        return None
    closing = re.compile(f"(?<!{_PLAIN_ON}){re.escape(ending.group())}")
    spans = []
    for opening in re.finditer(re.escape(header), text):
        closed = closing.search(text, opening.end())
        if closed is None:
            return None
        spans.append((opening.end(), closed.end()))
    return spans if len(spans) == count else None


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`: marks what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Any) -> str:
        return f"{_LOSS_ON}{caller()}{_LOSS_OFF}"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """The settings and names under which transformers renders chat templates, without its clock."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja2's HTML escapes. Never ASCII-only: that would spell the marks of this module as text."""
    del ensure_ascii
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not readable JSON ({error})") from error
    return value if isinstance(value, dict) else {}
