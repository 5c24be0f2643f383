"""Fields by which a recipe names a served model, and how conversations with a model are written. Imports no torch."""

from __future__ import annotations

import keyword
import re
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from thinkling.errors import UserError

_TAKEN = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token")


_OURS = ("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "reasoning_effort")
_SHAPES = ("stream", "stream_options", "n", "tools", "tool_choice", "functions", "function_call", "logprobs")
"""Fields of a request that change the form of the answer, which is read as one message of text."""
_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PricesConfig(_Part):
    """What a served model costs per million tokens, in any one currency."""

    prompt: float = Field(ge=0)
    """Per million tokens of the prompt."""
    completion: float = Field(ge=0)
    """Per million generated tokens, those of its reasoning included."""
    cached: float | None = Field(default=None, ge=0)
    """Per million tokens of the prompt that the server had in its cache; as `prompt` if not set."""


class BudgetConfig(_Part):
    """What may be spent on a served model by one stage. Requests in flight when it is spent are still answered."""

    requests: int | None = Field(default=None, ge=1)
    """Answered requests."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and completions together, as the server counts them."""
    cost: float | None = Field(default=None, gt=0)
    """In the currency of `prices`, which it needs."""


class LimitsConfig(_Part):
    """How fast a served model is asked at most, all requests of the stage to it together."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests started per minute, attempts after a failure included."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens of prompts and completions that the server has counted per minute. What a request will take is estimated
    by the mean of those answered before."""


class ServerConfig(BaseModel):
    """A model behind a server with OpenAI's chat completions (docs/served.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Base address of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str | None = Field(default=None, min_length=1)
    """The served model's name."""
    key_variable: str | None = None
    """Environment variable that holds the API key, if the server needs one. The key itself is written nowhere."""
    key_header: str = Field(default="Authorization", pattern=r"^[A-Za-z0-9-]+$", exclude=True)
    """Header that carries the key: after `Bearer` in `Authorization`, as it is in any other, such as `api-key`."""
    headers: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Further headers of each request. They are for names and versions; a key belongs into `key_variable`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Field of the request that carries `max_new_tokens`. Newer models of OpenAI accept only
    `max_completion_tokens`."""
    omit: list[Literal["temperature", "top_p", "seed"]] = Field(default_factory=list)
    """Fields of the request that are left out, for models that refuse them."""
    reasoning_effort: str | None = None
    """`low`, `medium`, `high` or what else the server knows; not sent if not set."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, such as `{chat_template_kwargs: {enable_thinking: false}}`."""
    concurrency: int = Field(default=8, ge=1, exclude=True)
    """Requests in flight at a time; a local model has `max_concurrent`."""
    timeout_s: float = Field(default=120.0, gt=0, exclude=True)
    """Seconds until a request is given up and asked again."""
    patience_s: float = Field(default=600.0, ge=0, exclude=True)
    """Seconds for which a request is asked again after its first failure, where the failure may pass (docs/served.md).
    Ten minutes outlast a restart of a server and the usual limits per minute."""
    prices: PricesConfig | None = Field(default=None, exclude=True)
    """Prices, from which the cost is computed; only tokens are counted if not set."""
    budget: BudgetConfig | None = Field(default=None, exclude=True)
    """What may be spent; without limit if not set. A stage that stops for it goes on once it is raised."""
    limits: LimitsConfig | None = Field(default=None, exclude=True)
    """Requests or tokens per minute; without limit if not set."""

    @model_validator(mode="after")
    def _served_fields(self) -> ServerConfig:
        if self.url is None:
            for name in SERVED:
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    raise ValueError(f"{name}: is for a model behind url; remove it, or give url and model")
        for name in self.extra_body:
            if name in _OURS or name in _SHAPES:
                cure = "max_tokens_field and omit, or fields of the stage, set it" if name in _OURS else "leave it out"
                raise ValueError(f"extra_body.{name}: cannot be set here; {cure}")
        for name, value in self.headers.items():
            if _SECRET.search(name):
                raise ValueError(f"headers.{name}: a key is taken from the environment: key_variable and key_header")
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[\t -~]*", value):
                raise ValueError(f"headers.{name}: a header's name and value are one line of ASCII")
            if name.lower() in ("content-type", "content-length", "host"):
                raise ValueError(f"headers.{name}: is set by the client; remove it")
        if self.budget is not None and self.budget.cost is not None and self.prices is None:
            raise ValueError("budget.cost: needs prices, by which the cost is computed")
        return self


SERVED = tuple(name for name in ServerConfig.model_fields if name not in ("url", "concurrency", "timeout_s"))
"""Fields that have no meaning for a local model."""


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
