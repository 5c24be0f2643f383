"""Training tokens per second by precision on one device, alternating (A B C A B C …) in one process.

    python -m benchmarks.speed.precision                  # a GPU: 135M parameters, 8 rows of 2,048 tokens per step
    python -m benchmarks.speed.precision --shape tiny     # a CPU: only checks that it works

Each precision has its own model with the same random weights and trains as sft does (packed rows of several documents,
next-token loss, clipping, AdamW). `float32`: everything in fp32. `bfloat16`: fp32 weights, computation with bf16
copies. `bfloat16 weights`: weights and optimizer state in bf16 too, rounded stochastically. Last line: JSON with, per
precision, tokens per second (median over the rounds, and each round), the factor over float32 in the same round, bytes
per parameter of weights and optimizer state, and on a GPU the peak memory of a step in GiB, excluding other models.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from thinkling.data.packing import PackedBatch, lay_conversations
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.device import default_device
from thinkling.stages.training.objective import next_token_objective
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import Trainer

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True,
    },
}  # fmt: skip
SIZES = {"135M": (8, 2048), "tiny": (2, 128)}
"""Rows per step and tokens per row."""
PRECISIONS = {
    "float32": PrecisionConfig(),
    "bfloat16": PrecisionConfig(compute="bfloat16"),
    "bfloat16 weights": PrecisionConfig(compute="bfloat16", weights="bfloat16"),
}
DOCUMENTS = 4
"""Documents per row, all of equal length."""


def batch_of(step: int, rows: int, length: int, vocab: int) -> PackedBatch:
    """Random tokens, all of them trained on."""
    rng = np.random.default_rng(step)
    size = length // DOCUMENTS
    laid = [
        [(rng.integers(0, vocab, size).astype(np.int32), np.ones(size, dtype=bool)) for _ in range(DOCUMENTS)]
        for _ in range(rows)
    ]
    return lay_conversations(laid, length, 0)


def trainer_of(shape: dict[str, Any], precision: PrecisionConfig, device: torch.device) -> Trainer:
    model = Decoder(ModelConfig.model_validate(shape))
    model.init_weights(torch.Generator().manual_seed(0))
    parallel = Parallel(device=device)
    return Trainer(model, OptimizerConfig(lr=1e-5), next_token_objective(device), parallel, precision)


def seconds(trainer: Trainer, batches: Sequence[PackedBatch]) -> float:
    """Seconds for one step per batch. A step ends when its loss is read, after all device work."""
    start = time.perf_counter()
    for batch in batches:
        trainer.step([batch], 1e-5)
    if trainer.parallel.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bytes_per_parameter(trainer: Trainer) -> float:
    kept = sum(x.nbytes for name, x in trainer.state_tensors().items() if not name.endswith(".step"))
    return kept / sum(p.numel() for p in trainer.model.parameters())


def peak_gib(trainer: Trainer, batch: PackedBatch) -> float | None:
    """Peak GPU memory of a step beyond what was allocated before; None on a CPU."""
    if trainer.parallel.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    trainer.step([batch], 1e-5)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def measure(shape_name: str, rounds: int, steps: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Precision → the figures listed in this module's docstring."""
    shape, (rows, length) = SHAPES[shape_name], SIZES[shape_name]
    batches = [batch_of(step, rows, length, shape["vocab_size"]) for step in range(steps)]
    trainers = {name: trainer_of(shape, precision, device) for name, precision in PRECISIONS.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, trainer in trainers.items():
        seconds(trainer, batches[:2])
        found[name] = {
            "bytes_per_parameter": bytes_per_parameter(trainer), "step_gib": peak_gib(trainer, batches[0])
        }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            rates[name].append(rows * length * steps / seconds(trainer, batches))
    for name, values in rates.items():
        factors = [a / b for a, b in zip(values, rates["float32"], strict=True)]
        found[name] |= {
            "tokens_per_second": round(statistics.median(values)),
            "rounds": [round(value) for value in values],
            "over_float32": round(statistics.median(factors), 3),
        }
    return found


def main() -> None:
    """Prints what was measured as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="135M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps per precision and round")
    options = parser.parse_args()
    device = default_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    found = measure(options.shape, options.rounds, options.steps, device)
    print(json.dumps({"device": name, "shape": options.shape, "precisions": found}))


if __name__ == "__main__":
    main()
