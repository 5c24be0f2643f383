"""Predicted against measured peak memory of a training step.

    python -m benchmarks.memory.plan [--device cpu | cuda]

memory.plan-cpu: three models × three modes of recomputation, fp32, AdamW, next-token loss. The value is the largest
deviation of `stages.training.memory.predict` from the measured peak, relative to the measured peak.

On a CPU, the measured peak is that of torch's allocator: weights and optimizer state before the step, plus the largest
sum of the allocations and releases that the profiler records during the step, in their order. This includes temporary
tensors inside operations and is the same in every run, unlike resident memory, which also contains the interpreter,
libraries, and freed memory that the C library keeps. On a GPU, it is `torch.cuda.max_memory_allocated`, with bf16
weights, compiled layers, and the shapes of benchmarks/speed/gpu.py. The step is the second one, after compiling.
"""

from __future__ import annotations

import argparse
import gc
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.gpu import SHAPES
from thinkling.data.packing import PackedBatch
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.lora import add_adapters
from thinkling.stages.training.memory import GIB, Batch, Training, predict
from thinkling.stages.training.objective import next_token_objective
from thinkling.train.config import OptimizerConfig, PrecisionConfig, Recompute
from thinkling.train.parallel import Parallel
from thinkling.train.precision import DTYPES
from thinkling.train.trainer import Trainer

MODES: tuple[Recompute, ...] = ("none", "selective", "full")
CPU_CASES: dict[str, tuple[dict[str, Any], Batch]] = {
    "1m, tied": (
        {
            "vocab_size": 2048,
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
        },
        Batch(8, 256),
    ),
    "8m, untied, head norms": (
        {
            "architecture": "qwen3",
            "vocab_size": 16384,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "tie_word_embeddings": False,
        },
        Batch(2, 512, micro_batches=2),
    ),
    "17m, rows of 1,024": (
        {
            "vocab_size": 8192,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 64,
        },
        Batch(2, 1024),
    ),
}
CUDA_CASES = {"135m": Batch(16, 2048), "1b": Batch(4, 4096, micro_batches=2), "3b": Batch(2, 4096)}


@dataclass(frozen=True)
class Case:
    """A predicted and a measured peak, in bytes."""

    predicted: float
    measured: float

    @property
    def deviation(self) -> float:
        return self.predicted / self.measured - 1


def batch(training: Training) -> PackedBatch:
    shape, rng = training.batch, np.random.default_rng(0)
    tokens = rng.integers(0, training.model.known_vocab_size, (shape.rows, shape.length))
    return PackedBatch(tokens, np.roll(tokens, -1, 1), ((shape.length,),) * shape.rows)


def trainer_of(training: Training) -> Trainer:
    device = torch.device("cuda" if training.on_gpu else "cpu")
    torch.set_default_dtype(DTYPES[training.precision.weights])
    with device:
        model = Decoder(training.model)
    torch.set_default_dtype(torch.float32)
    model.init_weights(torch.Generator(device).manual_seed(0))
    if training.lora is not None:
        add_adapters(model, training.lora, 0)
    return Trainer(
        model,
        OptimizerConfig(name=training.optimizer, lr=1e-4),
        next_token_objective(device),
        Parallel(device=device),
        training.precision,
        recompute=training.recompute,
        compiled=training.compiled,
    )


def measure(training: Training) -> Case:
    """Runs two training steps, and measures the second one."""
    trainer, micro_batches = trainer_of(training), [batch(training)] * training.batch.micro_batches
    trainer.step(micro_batches, 1e-4)
    if training.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        trainer.step(micro_batches, 1e-4)
        measured = float(torch.cuda.max_memory_allocated())
    else:
        measured = held(trainer) + allocated(lambda: trainer.step(micro_batches, 1e-4))
    return Case(predict(training).peak, measured)


def held(trainer: Trainer) -> int:
    """Bytes of the weights and the optimizer state."""
    tensors = [*trainer.state_tensors().values(), *trainer.model.parameters()]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def allocated(work: Any) -> float:
    """The largest number of bytes that exist at a time, of those that `work` allocates on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    profiler: Any = recorded.profiler
    events = [(e.start_ns(), e.nbytes()) for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [size for _, size in sorted(events, key=lambda event: event[0])]
    return float(np.cumsum(sizes).max())


def cases(device: str) -> dict[str, Training]:
    """The trainings to measure, by name."""
    found: dict[str, Training] = {}
    if device == "cuda":
        precision = PrecisionConfig(compute="bfloat16", weights="bfloat16")
        for name, shape in CUDA_CASES.items():
            model = ModelConfig.model_validate({"max_position_embeddings": shape.length, **SHAPES[name]})
            found[name] = Training(model, shape, precision, compiled=True)
    else:
        for name, (fields, shape) in CPU_CASES.items():
            found[name] = Training(ModelConfig.model_validate(fields), shape, on_gpu=False)
    return {f"{name}, {mode}": replace(t, recompute=mode) for name, t in found.items() for mode in MODES}


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Case] = {}
    for name, training in cases(options.device).items():
        found[name] = case = measure(training)
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()
        print(
            f"{name}: predicted {case.predicted / GIB:.3f} GiB, measured {case.measured / GIB:.3f}, "
            f"{case.deviation:+.1%}",
            flush=True,
        )
    deviations = [abs(case.deviation) for case in found.values()]
    measurement = {
        "value": max(deviations),
        "low": min(deviations),
        "high": max(deviations),
        "n": len(deviations),
        "runs": deviations,
        "unit": "relative",
        "cases": {name: [case.predicted / GIB, case.measured / GIB] for name, case in found.items()},
    }
    print(json.dumps({"measurements": {f"memory.plan-{options.device}": measurement}}))


if __name__ == "__main__":
    main()
