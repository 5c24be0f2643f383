"""Which tokenizer a run uses: one trained on its own documents, or one that exists."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TokenizerConfig(BaseModel):
    """Exactly one of `vocab_size` and `path`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int | None = Field(default=None, ge=265, le=2**31 - 1)
    """Tokens of the byte-level BPE to train, special tokens included. At least 265: 256 bytes and 9 special tokens."""

    path: Path | None = None
    """A directory with a Hugging Face tokenizer.json, used as it is."""

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.path is None):
            raise ValueError("set exactly one of vocab_size (train a tokenizer) and path (use an existing one)")
        return self
