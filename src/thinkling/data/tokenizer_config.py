"""Configures a run's tokenizer, which is either an existing tokenizer or a tokenizer trained on the run's documents."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.data.pre_split import Digits, pattern
from thinkling.errors import UserError


class TokenizerConfig(BaseModel):
    """Tokenizer of a run. Exactly one of `vocab_size` and `path` must be set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    vocab_size: int | None = Field(default=None, ge=265, le=2**31 - 1)
    """Vocabulary size of the BPE tokenizer to train, including special tokens. It must be at least 265, for 256 bytes
    and 9 special tokens."""

    pre_split: str = "gpt4"
    """Method of splitting text before the BPE tokenizer is trained: `gpt4`, or the name of an entry point in the group
    `thinkling.pre_splits`."""

    digits: Digits | None = None
    """How the pre-split `gpt4` splits numbers: `single` (the default) splits them into single digits, and `groups` into
    groups of up to three digits."""

    path: Path | None = None
    """Directory of an existing Hugging Face tokenizer, which must contain tokenizer.json. The tokenizer is used
    unchanged."""

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.path is None):
            raise ValueError("set exactly one of vocab_size (train a tokenizer) and path (use an existing tokenizer)")
        if self.path is not None and {"pre_split", "digits"} & self.model_fields_set:
            raise ValueError("pre_split and digits only apply if a tokenizer is trained; remove them, or remove path")
        try:
            self.pattern()
        except UserError as error:
            raise ValueError(f"pre_split: {error}") from error
        return self

    def pattern(self) -> str:
        """Returns the regular expression of the pre-split. Raises UserError if the name is unknown."""
        return pattern(self.pre_split, self.digits)
