"""Recipe fields of served models and of the rendering of conversations. This module does not import torch."""

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
"""Request fields that `extra_body` must not contain, because they would change the format of the answer, which must be
a single text message."""
_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PricesConfig(_Part):
    """Prices of a served model, all in the same currency."""

    prompt: float = Field(ge=0)
    """Price per million prompt tokens."""
    completion: float = Field(ge=0)
    """Price per million generated tokens, including reasoning."""
    cached: float | None = Field(default=None, ge=0)
    """Price per million prompt tokens that the server had cached; equal to `prompt` if not set."""


class BudgetConfig(_Part):
    """Limits on what a stage may spend on a served model. Requests that are in flight when a limit is reached are still
    completed."""

    requests: int | None = Field(default=None, ge=1)
    """Maximum number of answered requests."""
    tokens: int | None = Field(default=None, ge=1)
    """Maximum number of prompt and completion tokens together, as counted by the server."""
    cost: float | None = Field(default=None, gt=0)
    """Maximum cost, in the currency of `prices`, which must also be set."""


class LimitsConfig(_Part):
    """Rate limits on all requests that a stage sends to a served model."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Maximum number of requests started per minute, including retries."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Maximum number of prompt and completion tokens per minute, as counted by the server. A request in flight is
    counted with the average number of tokens of the requests answered in the last minute."""


class ServerConfig(BaseModel):
    """A model on a server with OpenAI's chat completions API (docs/served.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of the server, such as `http://127.0.0.1:8000/v1`."""
    model: str | None = Field(default=None, min_length=1)
    """Name of the model on the server."""
    key_variable: str | None = None
    """Environment variable that contains the API key, if the server needs a key. The key is never written anywhere."""
    key_header: str = Field(default="Authorization", pattern=r"^[A-Za-z0-9-]+$", exclude=True)
    """Header that contains the key. In `Authorization` the key is prefixed with `Bearer`; in any other header, such as
    `api-key`, the key is sent unchanged."""
    headers: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Additional request headers, such as an API version. For a key, use `key_variable`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Request field that carries `max_new_tokens`. Newer OpenAI models accept only `max_completion_tokens`."""
    omit: list[Literal["temperature", "top_p", "seed"]] = Field(default_factory=list)
    """Request fields to omit, for models that reject them."""
    reasoning_effort: str | None = None
    """`low`, `medium`, `high` or any other value that the server accepts. If not set, the field is not sent."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Additional request fields, such as `{chat_template_kwargs: {enable_thinking: false}}`."""
    concurrency: int = Field(default=8, ge=1, exclude=True)
    """Maximum number of requests in flight. For a local model, use `max_concurrent`."""
    timeout_s: float = Field(default=120.0, gt=0, exclude=True)
    """Seconds after which a request is abandoned and retried."""
    patience_s: float = Field(default=600.0, ge=0, exclude=True)
    """Seconds for which a request is retried after its first transient failure (docs/served.md). The default of ten
    minutes covers a server restart and the usual per-minute limits."""
    prices: PricesConfig | None = Field(default=None, exclude=True)
    """Prices from which the cost is computed. If not set, only tokens are counted."""
    budget: BudgetConfig | None = Field(default=None, exclude=True)
    """Spending limits; unlimited if not set. A stage that stopped at a limit resumes once the limit is raised."""
    limits: LimitsConfig | None = Field(default=None, exclude=True)
    """Limits on requests and tokens per minute; unlimited if not set."""

    @model_validator(mode="after")
    def _served_fields(self) -> ServerConfig:
        if self.url is None:
            for name in SERVED:
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    raise ValueError(
                        f"{name}: has an effect only for a served model; remove {name}, or set url and model"
                    )
        for name in self.extra_body:
            if name in _OURS or name in _SHAPES:
                cure = "use omit, max_tokens_field or a field of the stage instead" if name in _OURS else "remove it"
                raise ValueError(f"extra_body.{name}: cannot be set here; {cure}")
        for name, value in self.headers.items():
            if _SECRET.search(name):
                raise ValueError(
                    f"headers.{name}: a recipe must not contain keys; set key_variable to the environment variable "
                    "that contains the key, and key_header to the header's name"
                )
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[\t -~]*", value):
                raise ValueError(
                    f"headers.{name}: use only letters, digits and hyphens in the name, and one line of ASCII "
                    "characters as the value"
                )
            if name.lower() in ("content-type", "content-length", "host"):
                raise ValueError(f"headers.{name}: this header is set by the client; remove it")
        if self.budget is not None and self.budget.cost is not None and self.prices is None:
            raise ValueError("budget.cost: the cost cannot be computed without prices; set prices")
        return self


SERVED = tuple(name for name in ServerConfig.model_fields if name not in ("url", "concurrency", "timeout_s"))
"""Fields of `ServerConfig` that are rejected if `url` is not set, because they do not apply to a local model."""


class ChatConfig(BaseModel):
    """The chat template with which conversations are rendered for a model (docs/chat-templates.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    template: str = "own"
    """`own`: the template in the model's directory. `thinkling`: this project's template, for a base model without a
    template or a model whose template does not support reasoning or tool calls. Any other value: the path of a Jinja
    file. A training stage exports its model with the template that was used for training."""
    variables: dict[str, StrictBool | StrictInt | str] = Field(default_factory=dict)
    """Variables for the template, such as `enable_thinking: false`, or `date: 2026-07-26` if the template needs a date
    (the clock is never read). The variables become defaults in the template of an exported model."""

    @property
    def path(self) -> Path | None:
        """The path of the template; None for `own` and `thinkling`."""
        return None if self.template in ("own", "thinkling") else Path(self.template)

    @field_validator("template")
    @classmethod
    def _a_known_template(cls, template: str) -> str:
        if template not in ("own", "thinkling") and not template.endswith((".jinja", ".jinja2", ".j2")):
            raise ValueError(f"{template!r} is not valid; use own, thinkling or the path of a .jinja file")
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
                raise ValueError(
                    f"{name!r} is not a valid name for a template variable; use a Python identifier that does not "
                    f"begin with an underscore and is not {', '.join(_TAKEN[:-1])} or {_TAKEN[-1]}"
                )
            if name == "date":
                try:
                    date.fromisoformat(str(value))
                except ValueError:
                    raise ValueError(f"date: {value!r} is not a date; use the form 2026-07-26") from None
        return given


def chat_of_options(template: str, variables: list[str]) -> ChatConfig:
    """Builds the config from the options --template and --var NAME=VALUE; VALUE is parsed as YAML. Raises UserError if
    an option is invalid."""
    given: dict[str, Any] = {}
    for option in variables:
        name, sign, value = option.partition("=")
        if not sign:
            raise UserError(f"--var {option}: use the form NAME=VALUE")
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
