"""Fields by which a recipe names a served model. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
