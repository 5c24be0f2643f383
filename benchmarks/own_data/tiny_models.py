"""Tiny models with the shapes of other projects' models, made by transformers, as stand-ins for a user's model."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Shape = Literal["llama3", "qwen3"]
SHAPES: tuple[Shape, ...] = ("llama3", "qwen3")
VOCABULARY = 1024
SPECIAL: dict[Shape, tuple[str, ...]] = {
    "llama3": (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|python_tag|>",
    ),
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
PLAIN_ADDED: dict[Shape, tuple[str, ...]] = {
    "llama3": (),
    "qwen3": ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
}
"""Added tokens that count as text, not as special tokens of the tokenizer, as in Qwen3's vocabulary."""
END_OF_TURN: dict[Shape, str] = {"llama3": "<|eot_id|>", "qwen3": "<|im_end|>"}


def write_model(directory: Path, shape: Shape, texts: Iterable[str], layers: int = 2, seed: int = 0) -> None:
    """Writes a Hugging Face directory with random weights (fp32), a byte-level BPE tokenizer fitted to `texts`, and the
    family's chat template from the trl package."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL[shape]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in PLAIN_ADDED[shape]])
    end = END_OF_TURN[shape]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[shape][0] if shape == "llama3" else None,
        eos_token=end,
        pad_token=SPECIAL[shape][1] if shape == "llama3" else SPECIAL[shape][0],
    )
    templates = importlib.resources.files("trl") / "chat_templates"
    fast.chat_template = (templates / f"{shape}.jinja").read_text(encoding="utf-8")
    fast.save_pretrained(directory)
    sizes = {
        "vocab_size": len(fast),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "eos_token_id": fast.convert_tokens_to_ids(end),
        "pad_token_id": fast.pad_token_id,
        "bos_token_id": fast.bos_token_id,
    }
    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 500_000.0 if shape == "llama3" else 1_000_000.0}
    if shape == "llama3":
        model = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, rope_parameters=rope))
    model.save_pretrained(directory)
