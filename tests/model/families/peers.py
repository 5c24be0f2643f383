"""transformers' models of every family and rope variant, tiny and random, norms and biases included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

VOCAB, LAYERS = 61, 4
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 128,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
WINDOW = {"query_pre_attn_scalar": 16, "sliding_window": 9}
GRANITE = {
    "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22, "attention_multiplier": 0.015625,
}  # fmt: skip
NESTED = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, llama3 rope": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama, linear rope": ("Llama", {"rope_parameters": LINEAR}),
    "llama, yarn": ("Llama", {"rope_parameters": YARN}),
    "llama, yarn with its options": (
        "Llama",
        {"rope_parameters": YARN | {"beta_fast": 16.0, "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 0.5}},
    ),
    "llama, yarn with an attention factor": (
        "Llama",
        {"rope_parameters": YARN | {"attention_factor": 1.3, "truncate": False}},
    ),
    "qwen2": ("Qwen2", {}),
    "qwen2, yarn": ("Qwen2", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {}),
    "qwen3, yarn": ("Qwen3", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, sliding window": ("Mistral", {"sliding_window": 9}),
    "smollm3": ("SmolLM3", {"tie_word_embeddings": True}),
    "smollm3, layers named": ("SmolLM3", {"no_rope_layers": [0, 1, 1, 0], "rope_parameters": YARN}),
    "olmo2": ("Olmo2", {}),
    "olmo2, yarn": ("Olmo2", {"rope_parameters": YARN}),
    "phi3": ("Phi3", {}),
    "phi3, sliding window": ("Phi3", {"sliding_window": 9}),
    "phi3, heads rotated in part": (
        "Phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
    "granite": ("Granite", GRANITE),
    "granite, tied": ("Granite", GRANITE | {"tie_word_embeddings": True}),
    "gemma2": ("Gemma2", WINDOW),
    "gemma2, no caps": ("Gemma2", WINDOW | {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2, layers named": ("Gemma2", WINDOW | {"layer_types": ["full_attention", *["sliding_attention"] * 3]}),
    "gemma3_text": ("Gemma3", WINDOW | {"num_hidden_layers": 6}),
    "gemma3_text, linear rope, other pattern": (
        "Gemma3",
        WINDOW | {"rope_parameters": NESTED, "sliding_window_pattern": 2, "final_logit_softcapping": 20.0},
    ),
}
"""Name → transformers' prefix, and what the configuration has beside `SHAPE`."""


def config_of(case: str, **changes: Any) -> Any:
    """transformers' configuration."""
    prefix, fields = CASES[case]
    kind = getattr(transformers, f"{prefix}TextConfig" if prefix == "Gemma3" else f"{prefix}Config")
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}} if prefix != "Gemma3" else {}
    return kind(**SHAPE | rope | fields | changes)


def peer_of(case: str, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers with random weights, norms and biases included, and logits that differ clearly."""
    model = getattr(transformers, f"{CASES[case][0]}ForCausalLM")(config_of(case, **changes)).eval()
    config, generator = model.config, torch.Generator().manual_seed(seed)
    scale = getattr(config, "embedding_multiplier", config.hidden_size**0.5 if "gemma" in config.model_type else 1.0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.add_(noise, alpha=0.2)
            else:
                # Scaled embeddings are as large as others: else a tied head would repeat what it reads.
                embedding = name.endswith(("embed_tokens.weight", "lm_head.weight"))
                weight.copy_(noise * (0.5 / scale if embedding else 1.5 * weight.shape[1] ** -0.5))
    return model


def saved(case: str, directory: Path, seed: int = 0) -> Any:
    """Writes a peer as transformers does, and gives it."""
    model = peer_of(case, seed)
    model.save_pretrained(directory)
    return model


def old_form(directory: Path) -> None:
    """Rewrites config.json as before transformers 5: `rope_theta`, `rope_scaling`, and Gemma 3's own names."""
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    rope = raw.pop("rope_parameters")
    if "full_attention" in rope:
        raw["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    raw["rope_theta"] = rope.pop("rope_theta")
    if (kind := rope.pop("rope_type")) != "default":
        raw["rope_scaling"] = {"type": kind, **rope}
    elif "partial_rotary_factor" in rope:
        raw["partial_rotary_factor"] = rope["partial_rotary_factor"]
    path.write_text(json.dumps(raw))


def block_diagonal(lengths: list[list[int]], sequence_length: int, window: int | None = None) -> Tensor:
    """bool (B, 1, T, T): causal inside each document; padding sees itself."""
    mask = torch.eye(sequence_length, dtype=torch.bool).repeat(len(lengths), 1, 1, 1)
    for row, sizes in enumerate(lengths):
        start = 0
        for n in sizes:
            seen = torch.ones(n, n, dtype=torch.bool).tril()
            mask[row, 0, start : start + n, start : start + n] = seen if window is None else seen.triu(1 - window)
            start += n
    return mask
