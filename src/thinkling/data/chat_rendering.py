"""Renders a Jinja chat template in jinja2's sandbox with the settings and names that transformers provides.

So that runs are reproducible, a template that requests the date receives the date set in the recipe, not the current
date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from thinkling.data.chat_marks import LOSS_OFF, LOSS_ON
from thinkling.errors import UserError

Message = Mapping[str, Any]
Setting = str | int | bool

CURE = "set `chat: {template: thinkling}`"
"""Part of error messages about a directory that has no template, or a template that drops part of the data."""
REASONING_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),
)
"""Tags with which templates open and close reasoning."""
_DIRECTIVES = "aAbBdejmyYHIMpS"
_GIVEN = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token"})


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template."""

    source: str
    name: str
    """Name used in error messages."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Variables that transformers provides, such as `bos_token`."""
    settings: Mapping[str, Setting] = field(default_factory=dict, hash=False)
    """Variables set by the recipe, such as `enable_thinking`. `date` is the date that `strftime_now` formats."""

    @cached_property
    def compiled(self) -> jinja2.Template:
        """The compiled template. Raises UserError if the source is not valid Jinja."""
        try:
            return _environment().from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"chat template {self.name}: invalid Jinja in line {error.lineno}: {error.message}; correct the "
                "template"
            ) from error

    @cached_property
    def has_generation_marks(self) -> bool:
        """Whether the template itself marks the text written by the assistant."""
        return re.search(r"\{%[-+]?\s*generation\b", self.source) is not None

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None, add_generation_prompt: bool = False
    ) -> str:
        """Renders the messages. The text still contains the marks that chat_marks inserted into them.

        Raises UserError if the template fails, for example if it requests the date and the recipe does not set a date.
        """
        given = {"messages": [_as_transformers(message) for message in messages], "tools": list(tools or []) or None}
        if "date" in self.settings:
            given["strftime_now"] = _day(self.settings["date"]).strftime
        try:
            text = self.compiled.render(
                {**self.variables, **self.settings, **given}, add_generation_prompt=add_generation_prompt
            )
            text.encode()  # raises if the template produced lone surrogates, which tokenizers reject
            return text
        except UserError:
            raise
        except Exception as error:  # a foreign template can raise any exception, for example by calling a missing field
            cure = ""
            if isinstance(error, jinja2.UndefinedError) and "strftime_now" in str(error):
                cure = "; the template needs the current date, so set chat.variables.date, for example to 2026-07-26"
            message = f"chat template {self.name}: cannot render this conversation ({error}){cure}"
            raise UserError(message) from error

    def with_settings(self, settings: Mapping[str, Setting]) -> ChatTemplate:
        """Returns the template with these settings, which override settings that an export wrote into its source.

        Raises UserError for a name that the template does not use, and for an invalid date.
        """
        read = jinja2.meta.find_undeclared_variables(_environment().parse(self.source)) if settings else set()
        for name in settings:
            if name not in read and not (name == "date" and "strftime_now" in self.source):
                known = ", ".join(sorted(read - _GIVEN)) or "none"
                raise UserError(
                    f"chat.variables.{name}: not a variable of chat template {self.name}; its variables are: {known}"
                )
        if "date" in settings:
            _day(settings["date"])
        source = _BAKED_DATE.sub("", self.source, count=1) if "date" in settings else self.source
        return ChatTemplate(source, self.name, self.variables, dict(settings))

    @property
    def exported(self) -> str:
        """The source of the template with its settings prepended as defaults.

        transformers and vLLM, which do not read the recipe, thus render the same text.
        """
        lines = [
            f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}\n"
            for name, value in self.settings.items()
        ]
        if "date" in self.settings and "strftime_now" in self.source:
            lines.append(_baked_date(_day(self.settings["date"])))
        return "".join(lines) + self.source


def load_chat_template(directory: Path) -> ChatTemplate:
    """Returns the chat template of a Hugging Face directory.

    The template is in chat_template.jinja, or under `chat_template` in tokenizer_config.json. Raises UserError if the
    directory has neither.
    """
    config_path = directory / "tokenizer_config.json"
    config = _read_json(config_path)
    template_path = directory / "chat_template.jinja"
    if template_path.is_file():
        source, name = template_path.read_text(encoding="utf-8"), template_path
        further = directory / "additional_chat_templates" / "tool_use.jinja"
        if further.is_file():
            source = _choosing(source, further.read_text(encoding="utf-8"))
    else:
        source, name = config.get("chat_template"), config_path
        if isinstance(source, list):
            source = _of_named(source)
    if not isinstance(source, str):
        raise UserError(f"{directory}: no chat template; add chat_template.jinja, or {CURE}")
    return ChatTemplate(source, str(name), token_variables(directory))


def _of_named(entries: Sequence[Any]) -> str | None:
    """Returns the template to use from a list of named templates; None if none is named `default`."""
    named = {entry.get("name"): entry.get("template") for entry in entries if isinstance(entry, Mapping)}
    default, tool_use = named.get("default"), named.get("tool_use")
    if isinstance(default, str) and isinstance(tool_use, str):
        return _choosing(default, tool_use)
    return default if isinstance(default, str) else None


def _choosing(default: str, tool_use: str) -> str:
    """Returns a template that uses `tool_use` if tools are passed, and otherwise `default`, as transformers does."""
    # Jinja drops one newline at the end of a template. The plus signs preserve white space where the two are joined.
    used, other = tool_use.removesuffix("\n"), default.removesuffix("\n")
    return f"{{% if tools +%}}{used}{{%+ else +%}}{other}{{%+ endif %}}"


def read_chat_template(path: Path, directory: Path) -> ChatTemplate:
    """Reads a template from a file, for use with the tokenizer of `directory`.

    Raises UserError if the file cannot be read.
    """
    try:
        return ChatTemplate(path.read_text(encoding="utf-8"), str(path), token_variables(directory))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a chat template ({error}); correct the file or its path") from error


def token_variables(directory: Path) -> dict[str, str]:
    """Returns the spellings of the special tokens that transformers passes to the template of a directory."""
    named = {**_read_json(directory / "special_tokens_map.json"), **_read_json(directory / "tokenizer_config.json")}
    variables = {}
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = named.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            variables[role] = token
    return variables


def _as_transformers(message: Message) -> Message:
    """Returns the message as transformers 5 passes it to a template.

    The reasoning is available as `reasoning_content` and as `thinking`, because templates use either name.
    """
    message = {name: value for name, value in message.items() if name != "loss"}
    if message.get("reasoning_content") is None:
        return message
    return {"thinking": message["reasoning_content"], **message}


def _day(value: Setting) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise UserError(f"chat.variables.date: {value!r} is not a date; use the format 2026-07-26") from error


def _literal(value: Setting) -> str:
    """Returns a value as a Jinja literal."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _baked_date(day: date) -> str:
    """Returns a macro that replaces `strftime_now` of transformers, which formats the current date."""
    steps = "".join(f" | replace('%{code}', {_literal(day.strftime('%' + code))})" for code in _DIRECTIVES)
    steps = f" | replace('%-d', '{day.day}') | replace('%-m', '{day.month}')" + steps
    return f"{{%- macro strftime_now(format) %}}{{{{- format{steps} }}}}{{%- endmacro %}}\n"


_BAKED_DATE = re.compile(r"\{%- macro strftime_now\(format\) %\}\{\{- format[^\n]* \}\}\{%- endmacro %\}\n")


class _Generation(Extension):
    """Implements `{% generation %} … {% endgeneration %}`, which marks the text written by the assistant."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares this attribute in the same way)

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Any) -> str:
        return f"{LOSS_ON}{caller()}{LOSS_OFF}"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """Returns an environment with the settings and names of transformers, except `strftime_now`."""
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
    """Returns the value as JSON without the HTML escapes of jinja2.

    Non-ASCII characters are never escaped, because that would escape the marks of chat_marks.
    """
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
        raise UserError(f"{path}: not valid JSON ({error}); correct or replace the file") from error
    return value if isinstance(value, dict) else {}
