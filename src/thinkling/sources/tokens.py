"""Source type for text of which only the size is known, for use in plans."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from thinkling.sources.base import Source


class TokensSource(Source):
    """Tokens that are not on this machine. A recipe with a source of this type can be planned but not run."""

    type: Literal["tokens"]
    tokens: float = Field(gt=0)
    """Number of tokens."""

    artifact_kind: ClassVar[str | None] = "tokens"

    def size_in_tokens(self) -> float:
        return self.tokens
