"""Selects a run's tokenizer: one trained on its own documents, or an existing one."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.data.pre_split import Digits, pattern
from thinkling.errors import UserError


class TokenizerConfig(BaseModel):
    """Exactly one of `vocab_size` and `path`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    vocab_size: int | None = Field(default=None, ge=265, le=2**31 - 1)
    """Vocabulary size of the BPE to train, with special tokens. At least 265: 256 bytes and 9 special tokens."""

    pre_split: str = "gpt4"
    """How text is split before the BPE is trained: `gpt4`, or the name of an entry point in the group
    `thinkling.pre_splits`."""

    digits: Digits | None = None
    """With `gpt4`: every digit alone (`single`, the default), or numbers in groups of up to three (`groups`)."""

    path: Path | None = None
    """A directory with a Hugging Face tokenizer.json, used unchanged."""

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.path is None):
            raise ValueError("set exactly one of vocab_size (train a tokenizer) and path (use an existing one)")
        if self.path is not None and {"pre_split", "digits"} & self.model_fields_set:
            raise ValueError("pre_split and digits apply only to a tokenizer that is trained; remove them or path")
        try:
            self.pattern()
        except UserError as error:
            raise ValueError(f"pre_split: {error}") from error
        return self

    def pattern(self) -> str:
        """The regular expression of the pre-split. Raises UserError for an unknown name."""
        return pattern(self.pre_split, self.digits)
