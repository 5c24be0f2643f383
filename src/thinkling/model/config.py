"""The shape of a decoder, and its parameter and FLOP counts. This module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thinkling.errors import UserError
from thinkling.model.families import FAMILIES, family_of
from thinkling.model.families.base import Family, Features, Setting
from thinkling.model.rope import RopeScaling


class ModelConfig(BaseModel):
    """A dense decoder: RMSNorm, rotary embedding, grouped-query attention, SwiGLU, and the family's own features."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str = "llama"
    """The model family, with the same name as `model_type` in Hugging Face's config.json, such as `llama` or `qwen3`.
    docs/models.md lists the families; packages can add more."""
    settings: dict[str, Setting] = Field(default_factory=dict)
    """Settings specific to this architecture, by their names in config.json. Omitted settings have the family's
    defaults."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Number of rows of the embedding; if omitted, the vocabulary size of the stage's tokenizer."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream, in channels."""
    intermediate_size: int = Field(gt=0)
    """Width of the SwiGLU layer."""
    num_hidden_layers: int = Field(gt=0)
    """Number of layers."""
    num_attention_heads: int = Field(gt=0)
    """Number of query heads per layer."""
    num_key_value_heads: int = Field(gt=0)
    """Number of key/value heads per layer, which the query heads share. `num_attention_heads` must be a multiple of
    this number."""
    head_dim: int = Field(gt=0)
    """Number of channels per head; heads × head_dim need not equal hidden_size."""
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    """Constant added to the mean square in RMSNorms."""
    rope_theta: float = Field(default=1e4, gt=0)
    """Base of the rotary embedding. Training phases with longer rows raise the base (ABF, arXiv 2309.16039 §4.1)."""
    rope_scaling: RopeScaling | None = None
    """Scaling of the rotary frequencies for rows longer than in pre-training. None means no scaling."""
    max_position_embeddings: int = Field(default=4096, gt=0)
    """Length in tokens of the longest row for which the model is intended. The value is written to config.json and
    limits the length of prompts and replies in generation; no table depends on it."""
    tie_word_embeddings: bool = True
    """Whether the output head shares the embedding's weights, as is usual in small models."""
    init: Literal["fan_in", "normal"] = "fan_in"
    """Standard deviation of the initial weights. `fan_in`: 1/√fan_in for most matrices, 0.3/√fan_in for o_proj and
    down_proj, and 0.5/√hidden_size for embeddings; at width 96, `fan_in` lowered the loss after the same number of
    steps from 0.92 to 0.34. `normal`: `initializer_range` for all weights, as in Hugging Face."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights if `init` is `normal`."""

    @field_validator("architecture")
    @classmethod
    def _architecture_is_known(cls, value: str) -> str:
        if value not in FAMILIES:
            raise ValueError(
                f"unknown architecture {value!r}; use one of {', '.join(FAMILIES.names())}; a package can add others "
                f"with an entry point in the group {FAMILIES.group}"
            )
        return value

    @model_validator(mode="after")
    def _settings_are_the_familys(self) -> ModelConfig:
        for name in self.settings:
            if name not in (known := self.family.settings):
                raise ValueError(
                    f"settings.{name}: not a setting of {self.architecture}; remove it, or use one of its "
                    f"settings: {', '.join(known) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}; change one of them"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; it must be even for the rotary embedding")
        return self

    @model_validator(mode="after")
    def _features_fit(self) -> ModelConfig:
        if self.rope_scaling is not None and self.features.rotary is not None:
            raise ValueError(
                f"rope_scaling: {self.architecture} defines its own rotary frequencies; remove rope_scaling"
            )
        kinds = len(self.features.layer_kinds)
        if kinds not in (0, self.num_hidden_layers):
            raise ValueError(
                f"settings describes {kinds} layers, but num_hidden_layers is {self.num_hidden_layers}; make them equal"
            )
        return self

    @property
    def family(self) -> Family:
        """The family of `architecture`. Raises UserError if a package's family cannot be loaded."""
        return family_of(self.architecture)

    @property
    def features(self) -> Features:
        """The features by which the decoder differs from Llama's."""
        return self.family.features(self)

    @property
    def known_vocab_size(self) -> int:
        """Returns `vocab_size`. Raises UserError if it is not set yet."""
        if self.vocab_size is None:
            raise UserError(
                "model.vocab_size: not set, and there is no tokenizer to take it from; set model.vocab_size in the "
                "recipe"
            )
        return self.vocab_size

    def non_embedding_parameter_count(self) -> int:
        """Number of parameters, excluding the embedding and, if untied, the output head."""
        d, f, c = self.hidden_size, self.intermediate_size, self.head_dim
        features = self.features
        attention = 2 * d * c * (self.num_attention_heads + self.num_key_value_heads)
        biases = c * (self.num_attention_heads + 2 * self.num_key_value_heads) if features.qkv_bias else 0
        norms = d * len(features.norms.present()) + (2 * c if features.head_norms else 0)
        norms += c * (self.num_attention_heads + self.num_key_value_heads) if features.row_norms else 0
        layer = attention + biases + 3 * d * f + norms + features.extra_layer_parameters
        return self.num_hidden_layers * layer + d

    def parameter_count(self) -> int:
        """Number of all parameters; a tied embedding is counted once."""
        matrices = 1 if self.tie_word_embeddings else 2
        return self.non_embedding_parameter_count() + matrices * self.known_vocab_size * self.hidden_size

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """The linear layers of each decoder layer: Hugging Face's name → number of inputs and of outputs."""
        d, f = self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        if self.features.fused_projections:
            into = {"qkv_proj": (d, q + 2 * kv), "o_proj": (q, d), "gate_up_proj": (d, 2 * f)}
        else:
            into = {"q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (q, d)}
            into |= {"gate_proj": (d, f), "up_proj": (d, f)}
        return into | {"down_proj": (f, d)}

    def flops_per_token(self, sequence_length: int) -> float:
        """Training FLOPs (forward + backward) per token of a row with one document of `sequence_length` tokens.

        The formula is 6·(non-embedding parameters + vocabulary × hidden) + 6·layers·heads·head_dim·sequence_length. It
        counts two FLOPs per multiply-add, three passes, and half of the attention matrix, because attention is causal.
        """
        dense = self.non_embedding_parameter_count() + self.known_vocab_size * self.hidden_size
        attention = self.num_hidden_layers * self.num_attention_heads * self.head_dim * sequence_length
        return 6.0 * dense + 6.0 * attention


Float8Recipe = Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"]
"""How linear layers round to 8-bit floating point, by the names of torchao's recipes (float8.py)."""
Target = Literal[
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj"
]


class LoraConfig(BaseModel):
    """Low-rank adapters (LoRA, arXiv 2106.09685). The weights of the model are frozen, and two small matrices are
    trained for each of the linear layers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(default=16, ge=1)
    """Number of rows of A and of columns of B. Larger adapters can learn more, and take more memory."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapters' output is multiplied by alpha / rank. With the default rank, the factor is 2, which is common."""
    targets: Annotated[list[Target], Field(min_length=1)] | None = None
    """Hugging Face's names of the linear layers with adapters, such as `[q_proj, v_proj]`. If not set, all linear
    layers of attention and MLP have adapters; adapters on attention alone learn less (arXiv 2305.14314)."""

    @field_validator("targets")
    @classmethod
    def _no_duplicates(cls, targets: list[Target] | None) -> list[Target] | None:
        for target in targets or ():
            if (targets or []).count(target) > 1:
                raise ValueError(f"{target!r} is listed twice; remove one of the entries")
        return targets

    def layers_of(self, model: ModelConfig) -> dict[str, tuple[int, int]]:
        """The layers with adapters: name → number of inputs and of outputs."""
        return {
            name: sizes for name, sizes in model.linear_layers().items() if self.targets is None or name in self.targets
        }

    def mismatch(self, model: ModelConfig) -> str | None:
        """Returns an error message if the model lacks a layer in `targets`, or if its family has its own layers, which
        may not call the linear layers."""
        if model.features.layer is not None:
            return (
                f"lora: the layers of {model.architecture} models are defined by a package and may not use adapters; "
                "remove lora, or choose a model of another family"
            )
        known = model.linear_layers()
        for target in self.targets or ():
            if target not in known:
                return (
                    f"lora.targets: {model.architecture} models have no layer {target!r}; use some of "
                    f"{', '.join(known)}"
                )
        return None

    def parameter_count(self, model: ModelConfig) -> int:
        """Number of trained parameters."""
        per_layer = sum(self.rank * (inputs + outputs) for inputs, outputs in self.layers_of(model).values())
        return model.num_hidden_layers * per_layer
