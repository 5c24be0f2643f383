"""Sampling settings shared by all stages that query a model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SamplingConfig(BaseModel):
    """Sampling fields of a stage or of one of its parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    temperature: float = Field(default=0.6, ge=0)
    """Sampling temperature; 0 is greedy decoding (default: docs/recipe.md, Evaluation)."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: probability mass of the most likely tokens to sample from (default: docs/recipe.md,
    Evaluation)."""
    max_new_tokens: int = Field(ge=1)
    """Maximum tokens generated per sample, including reasoning but not tool output. Truncated samples count as wrong,
    so leave room: reasoning models write thousands of tokens."""
    max_concurrent: int = Field(default=128, ge=1)
    """Maximum number of sequences decoded at the same time."""


class ToolSamplingConfig(SamplingConfig):
    """Sampling fields of a stage, or of one of its parts, in which problems may offer tools."""

    max_tool_calls: int = Field(default=3, ge=0)
    """Maximum tool calls answered per sample; 0 disables tools. 3 is enough to compute, check the result and correct
    it. Raise it together with `max_new_tokens` for problems that need many steps, such as those with the python
    tool."""
