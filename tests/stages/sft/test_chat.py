"""sft of a base model that has no chat template, and what it exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from thinkling.data.artifact import Artifact
from thinkling.data.conversations import Conversation, write_conversations
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.renderer import Renderer
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.stage import run


def test_a_base_model_learns_to_chat_by_one_field(tmp_path: Path) -> None:
    tokenizer = train_bpe(["a b "], 258, special_tokens=["<s>", "</s>"])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
    }
    Tokenizer({**tokenizer._files, "tokenizer_config.json": json.dumps(config).encode()}).save(tmp_path / "tokenizer")
    shape = ModelConfig(
        architecture="llama", vocab_size=258, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
    )  # fmt: skip
    torch.manual_seed(0)
    save_pretrained(Decoder(shape), tmp_path / "base", tmp_path / "tokenizer", {})
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "hm"}]
    (tmp_path / "given").mkdir()
    write_conversations(tmp_path / "given" / "conversations.parquet", [Conversation("1", turns, "mine")] * 4)
    stage = SftConfig.model_validate(
        {
            "kind": "sft", "inputs": {"model": "base", "conversations": "given"}, "epochs": 1, "sequence_length": 256,
            "batch_size": 1, "optimizer": {"lr": 0.01},
            "chat": {"template": "thinkling"},
        }
    )  # fmt: skip
    inputs = {"model": Artifact(tmp_path / "base", {}), "conversations": Artifact(tmp_path / "given", {})}
    (tmp_path / "out").mkdir()
    run(stage, StageContext("sft", tmp_path / "out", inputs, 1))

    from transformers import AutoModelForCausalLM, AutoTokenizer

    exported = tmp_path / "out" / "model"
    theirs = AutoTokenizer.from_pretrained(exported)
    ids, loss = Renderer.load(exported).encode(turns)
    expected = theirs.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    assert ids.tolist() == expected["input_ids"]
    np.testing.assert_array_equal(loss.astype(int), expected["assistant_masks"])
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert model.config.vocab_size == 258
    assert model.generation_config.eos_token_id == 1
