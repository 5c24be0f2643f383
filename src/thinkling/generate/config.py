"""Fields by which a recipe names a served model, and how conversations with a model are written. Imports no torch."""

from __future__ import annotations

import keyword
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, field_validator

from thinkling.errors import UserError

_TAKEN = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token")


class ServerConfig(BaseModel):
    """A model behind a server with OpenAI's chat completions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Base address of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str | None = Field(default=None, min_length=1)
    """The served model's name."""
    key_variable: str | None = None
    """Environment variable that holds the API key, if the server needs one. The key itself is written nowhere."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at a time; a local model has `max_concurrent`."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds until a request is given up and asked again."""


class ChatConfig(BaseModel):
    """How conversations with a model become text (docs/chat-templates.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    template: str = "own"
    """`own`: the template of the model's directory. `thinkling`: ours, for a base model that has none, or one whose
    template does not write reasoning or tool calls. Otherwise the path of a jinja file. A stage that trains exports the
    model with the template that it used."""
    variables: dict[str, StrictBool | StrictInt | str] = Field(default_factory=dict)
    """Names that the template reads, such as `enable_thinking: false`, or `date: 2026-07-26` for one that asks for the
    date, since no clock is read. They become defaults in the template of an exported model."""

    @property
    def path(self) -> Path | None:
        """The file of the template, if it is one."""
        return None if self.template in ("own", "thinkling") else Path(self.template)

    @field_validator("template")
    @classmethod
    def _a_known_template(cls, template: str) -> str:
        if template not in ("own", "thinkling") and not template.endswith((".jinja", ".jinja2", ".j2")):
            raise ValueError(f"{template!r} is neither own, thinkling, nor the path of a .jinja file")
        return template

    @field_validator("variables", mode="before")
    @classmethod
    def _days_as_text(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: str(value) if isinstance(value, date) else value for name, value in given.items()}

    @field_validator("variables")
    @classmethod
    def _names_of_variables(cls, given: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        for name, value in given.items():
            if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or name in _TAKEN:
                raise ValueError(f"{name!r} is no name that a template can be given")
            if name == "date":
                try:
                    date.fromisoformat(str(value))
                except ValueError:
                    raise ValueError(f"date: {value!r} is no date; write it as 2026-07-26") from None
        return given


def chat_of_options(template: str, variables: list[str]) -> ChatConfig:
    """From the options --template and --var NAME=VALUE, whose values are read as YAML. Raises UserError."""
    given: dict[str, Any] = {}
    for option in variables:
        name, sign, value = option.partition("=")
        if not sign:
            raise UserError(f"--var {option}: write it as NAME=VALUE")
        try:
            given[name] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            given[name] = value
    try:
        return ChatConfig(template=template, variables=given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--var" if first["loc"][:1] == ("variables",) else "--template"
        raise UserError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from error
