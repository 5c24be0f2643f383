"""How models are sampled: the fields of every stage that asks one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SamplingConfig(BaseModel):
    """Fields of a stage, or of a part of one, that samples from a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    temperature: float = Field(default=0.6, ge=0)
    """Logits are divided by it; 0 takes the likeliest token (default: docs/recipe.md, Evaluation)."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Probability mass of the likeliest tokens that samples are drawn from (default: docs/recipe.md, Evaluation)."""
    max_new_tokens: int = Field(ge=1)
    """Tokens that the model may write per sample, reasoning included; what a tool writes does not count. A sample that
    is cut off is wrong, so leave room: reasoning models write thousands of tokens."""
    max_concurrent: int = Field(default=128, ge=1)
    """Sequences decoded at once."""


class ToolSamplingConfig(SamplingConfig):
    """Fields of a stage, or of a part of one, whose samples may call the tools that their problems name."""

    max_tool_calls: int = Field(default=3, ge=0)
    """Tool calls per sample that are answered; 0 runs no tools. 3 is enough to compute, look at the result and correct
    it; raise it where problems need many steps, as with the python tool, and `max_new_tokens` with it."""
