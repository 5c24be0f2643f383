"""Shape of a decoder, and what follows from the shape alone: parameters and FLOPs. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.errors import UserError


class ModelConfig(BaseModel):
    """A dense Llama or Qwen3 decoder: RMSNorm, rotary embedding, grouped-query attention, SwiGLU, no biases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["llama", "qwen3"] = "llama"
    """`qwen3` is `llama` with an RMSNorm over each head's queries and keys before the rotary embedding."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Rows of the embedding; left out, the stage takes the tokenizer's size."""
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    """Width of the SwiGLU layer."""
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    """Channels of one head; heads × head_dim need not equal hidden_size."""
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    rope_theta: float = Field(default=1e4, gt=0)
    """Base of the rotary embedding; a phase with longer rows raises it (ABF, arXiv 2309.16039 §4.1)."""
    max_position_embeddings: int = Field(default=4096, gt=0)
    """Longest row the model is meant for, in tokens; written to config.json, no table depends on it."""
    tie_word_embeddings: bool = True
    init: Literal["fan_in", "normal"] = "fan_in"
    """`fan_in`: 1/√fan_in, embeddings 0.5/√hidden_size, o_proj and down_proj × 0.3 (at width 96 it lowers the loss of
    equal steps from 0.92 to 0.34, measured); `normal`: `initializer_range` everywhere, as Hugging Face."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation under init `normal`."""

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; the rotary embedding turns pairs of channels")
        return self

    @property
    def known_vocab_size(self) -> int:
        """`vocab_size`, or UserError where it is not filled in yet."""
        if self.vocab_size is None:
            raise UserError("model.vocab_size: not given and no tokenizer to take it from; write it in the recipe")
        return self.vocab_size

    def non_embedding_parameter_count(self) -> int:
        """Parameters less the embedding and, where it is not tied to it, the output head."""
        d, f, c = self.hidden_size, self.intermediate_size, self.head_dim
        attention = 2 * d * c * (self.num_attention_heads + self.num_key_value_heads)
        norms = 2 * d + (2 * c if self.architecture == "qwen3" else 0)
        return self.num_hidden_layers * (attention + 3 * d * f + norms) + d

    def parameter_count(self) -> int:
        """All parameters; a tied embedding counts once."""
        matrices = 1 if self.tie_word_embeddings else 2
        return self.non_embedding_parameter_count() + matrices * self.known_vocab_size * self.hidden_size

    def flops_per_token(self, sequence_length: int) -> float:
        """Training FLOPs (forward + backward) a token in a row that is one document of `sequence_length` tokens.

        6·(non-embedding parameters + vocabulary × hidden) + 6·layers·heads·head_dim·sequence_length: two FLOPs a
        multiply-add, three passes, causal attention counted at half the square.
        """
        dense = self.non_embedding_parameter_count() + self.known_vocab_size * self.hidden_size
        attention = self.num_hidden_layers * self.num_attention_heads * self.head_dim * sequence_length
        return 6.0 * dense + 6.0 * attention
