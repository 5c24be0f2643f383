"""How much memory the logits of a long row take.

    python -m benchmarks.memory.logits [--device cpu | cuda]

memory.logits: a training step of 65,536 tokens (64 packed documents) with a vocabulary of 166,144, two layers, layers
recomputed. The value is the peak of the step minus the peak of the same step whose loss is the sum of the hidden
states, which needs no logits. All logits at once would be 40.6 GiB in fp32.

On a CPU, the hidden size is 32 instead of 2,560, because the products with the head would take over an hour, and the
computation is in fp32. The memory of a chunk of logits does not depend on the hidden size; that of the head's gradient
does, and is measured with `--device cuda` (bf16, hidden size 2,560, compiled layers; in `loss_alone` also everything
that the loss allocates at a time, including the gradients of the hidden states and of the head). Peaks: see plan.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.memory.plan import allocated, batch, held, trainer_of
from thinkling.data.packing import PackedBatch
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.loss import chunked_cross_entropy
from thinkling.stages.training.memory import GIB, Batch, Training
from thinkling.train.config import PrecisionConfig
from thinkling.train.trainer import Trainer

VOCABULARY, TOKENS, DOCUMENT = 166144, 65536, 1024


def training(device: str) -> Training:
    hidden, heads, channels = (2560, 20, 128) if device == "cuda" else (32, 2, 16)
    model = ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=41 * hidden // 10,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=channels,
        tie_word_embeddings=False,
        max_position_embeddings=TOKENS,
    )
    dtype = "bfloat16" if device == "cuda" else "float32"
    precision = PrecisionConfig(compute=dtype, weights=dtype)
    on_gpu = device == "cuda"
    return Training(model, Batch(1, TOKENS), precision, recompute="selective", compiled=on_gpu, on_gpu=on_gpu)


def without_logits(model: Any, packed: PackedBatch) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
    """An objective that needs no logits."""
    device = model.model.norm.weight.device
    layout = DocumentLayout.from_lengths(packed.lengths, packed.tokens_BT.shape[1], device)
    return model(torch.from_numpy(packed.tokens_BT).to(device), layout).float().sum(), TOKENS, {}


def peak(trainer: Trainer, packed: PackedBatch, on_gpu: bool) -> float:
    """Bytes at the peak of a step."""
    if on_gpu:
        trainer.step([packed], 0.0)
        torch.cuda.reset_peak_memory_stats()
        trainer.step([packed], 0.0)
        return float(torch.cuda.max_memory_allocated())
    return held(trainer) + allocated(lambda: trainer.step([packed], 0.0))


def loss_alone(t: Training) -> float:
    """Bytes that the loss allocates at a time on a GPU."""
    x_ND = torch.randn(TOKENS, t.model.hidden_size, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight_VD = nn.Parameter(torch.randn(VOCABULARY, t.model.hidden_size, device="cuda", dtype=torch.bfloat16))
    labels_N = torch.randint(VOCABULARY, (TOKENS,), device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    chunked_cross_entropy(x_ND, weight_VD, labels_N).backward()
    return float(torch.cuda.max_memory_allocated() - before)


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    t = training(options.device)
    packed = replace(batch(t), lengths=((DOCUMENT,) * (TOKENS // DOCUMENT),))
    trainer = trainer_of(t)
    objective, trainer.objective = trainer.objective, without_logits
    layers = peak(trainer, packed, t.on_gpu)
    trainer.objective = objective
    whole = peak(trainer, packed, t.on_gpu)
    value = (whole - layers) / GIB
    measurement = {
        "value": value,
        "low": value,
        "high": value,
        "n": 1,
        "runs": [value],
        "unit": "GiB",
        "layers": layers / GIB,
        "step": whole / GIB,
        **({"loss_alone": loss_alone(t) / GIB} if t.on_gpu else {}),
        "hidden_size": t.model.hidden_size,
    }
    print(json.dumps({"measurements": {"memory.logits": measurement}}))


if __name__ == "__main__":
    main()
