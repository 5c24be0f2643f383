"""Sampling settings shared by all stages that query a model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SamplingConfig(BaseModel):
    """Sampling settings of a stage, or of one part of a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    temperature: float = Field(default=0.6, ge=0)
    """Sampling temperature; 0 means greedy decoding. The default is taken from docs/recipe.md, Evaluation."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: probability mass of the most likely tokens to sample from. The default is taken from
    docs/recipe.md, Evaluation."""
    max_new_tokens: int = Field(ge=1)
    """Maximum number of tokens generated per sample, including reasoning but not tool output. Truncated samples count
    as incorrect, so leave enough room: reasoning models write thousands of tokens."""
    max_concurrent: int = Field(default=128, ge=1)
    """Maximum number of sequences decoded at the same time."""


class ToolSamplingConfig(SamplingConfig):
    """Sampling settings of a stage, or of one part of a stage, in which problems may provide tools."""

    max_tool_calls: int = Field(default=3, ge=0)
    """Maximum number of tool calls that are answered per sample; 0 disables tools. The default of 3 calls is enough to
    compute a result, check the result and correct it. Raise the limit together with `max_new_tokens` for problems that
    need many steps, for example with the python tool."""
