"""Training speed on GPUs: every row in one resumable call.

    python -m benchmarks.speed.gpu [--out gpu.jsonl] [--rows 3b-4k 3b-16k …] [--seconds 540]

A row is a model shape, a batch and settings of the product, or transformers at the same shape. Every row runs in a
process of its own, and its result is a line of the output file; rows that the file already has are skipped, so that the
call can be repeated until all rows are there. A row that fails is a line with its error.

A step is `Trainer.step` with the next-token objective, or, for transformers, forward, backward, clipping and fused
AdamW; random weights and tokens. Time: median of the steps after two for warm-up, which include compiling. MFU counts
`ModelConfig.flops_per_token` (for packed rows, with the length of each document) over 989e12 FLOP/s. `gib` is the
peak of allocated memory, and `predicted_gib` what `thinkling plan` predicts for it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from thinkling.model.config import ModelConfig
from thinkling.stages.training.memory import GIB, Batch, Training, predict
from thinkling.train.config import OptimizerConfig, PrecisionConfig

PEAK = 989e12
WARM_UP = 2
SHAPES: dict[str, dict[str, Any]] = {
    "3b": {
        "vocab_size": 166144,
        "hidden_size": 2560,
        "intermediate_size": 10496,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "1b": {
        "vocab_size": 65536,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Row:
    """One measurement."""

    shape: str
    rows: int
    length: int
    micro_batches: int = 1
    weights: Literal["float32", "bfloat16"] = "bfloat16"
    recompute: Literal["none", "selective", "full"] = "none"
    compile: bool = True
    float8: Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"] | None = None
    """Recipe of the linear layers in fp8."""
    offload: bool = False
    documents: int = 0
    """Mean length of the documents of packed rows; 0: one document per row."""
    peer: Literal["", "eager", "compiled", "checkpointed"] = ""
    """transformers, if not empty."""
    ranks: int = 1
    steps: int = 5


ROWS: dict[str, Row] = {
    "3b-4k": Row("3b", 4, 4096),
    "3b-4k-fp8-tensorwise": Row("3b", 4, 4096, float8="tensorwise"),
    "3b-4k-fp8-rowwise": Row("3b", 4, 4096, float8="rowwise"),
    "3b-4k-fp8-rowwise-with-gw-hp": Row("3b", 4, 4096, float8="rowwise_with_gw_hp"),
    "3b-4k-rows-2": Row("3b", 2, 4096),
    "3b-accumulate": Row("3b", 4, 4096, micro_batches=8, steps=3),
    "3b-8k": Row("3b", 2, 8192),
    "3b-packed-8k": Row("3b", 2, 8192, documents=1500),
    "3b-16k": Row("3b", 1, 16384),
    "3b-64k": Row("3b", 1, 65536, recompute="selective", steps=3),
    "3b-4k-selective": Row("3b", 4, 4096, recompute="selective"),
    "3b-4k-full": Row("3b", 4, 4096, recompute="full"),
    "3b-4k-fp32": Row("3b", 2, 4096, weights="float32", recompute="full"),
    "3b-4k-fp32-offload": Row("3b", 4, 4096, weights="float32", offload=True),
    "1b": Row("1b", 8, 4096, weights="float32"),
    "135m": Row("135m", 16, 2048, weights="float32"),
    "hf-3b-4k": Row("3b", 2, 4096, peer="eager"),
    "hf-3b-4k-compiled": Row("3b", 2, 4096, peer="compiled"),
    "hf-3b-16k": Row("3b", 1, 16384, peer="checkpointed"),
    "1b-selective": Row("1b", 8, 4096, weights="float32", recompute="selective"),
    "1b-full": Row("1b", 8, 4096, weights="float32", recompute="full"),
    "135m-selective": Row("135m", 16, 2048, weights="float32", recompute="selective"),
    "135m-full": Row("135m", 16, 2048, weights="float32", recompute="full"),
    "3b-4k-eager": Row("3b", 2, 4096, compile=False),
    "fsdp-3b-4k": Row("3b", 4, 4096, weights="float32", ranks=2),
    "fsdp-3b-64k": Row("3b", 1, 65536, weights="float32", recompute="selective", ranks=2, steps=3),
}


def batch(row: Row, vocabulary: int, rng: np.random.Generator) -> Any:
    """A random PackedBatch."""
    from thinkling.data.packing import PackedBatch

    tokens = rng.integers(0, vocabulary, (row.rows, row.length))
    labels = np.roll(tokens, -1, 1)
    lengths: list[tuple[int, ...]] = []
    for _ in range(row.rows):
        found: list[int] = []
        while (left := row.length - sum(found)) > 0:
            found.append(min(left, 16 + int(rng.exponential(row.documents))) if row.documents else left)
        lengths.append(tuple(found))
    return PackedBatch(tokens, labels, tuple(lengths))


def ours(row: Row) -> dict[str, Any]:
    """Measures the product."""
    from thinkling.model.decoder import Decoder
    from thinkling.stages.training.objective import next_token_objective
    from thinkling.train.parallel import close, setup
    from thinkling.train.precision import DTYPES
    from thinkling.train.trainer import Trainer

    parallel = setup()
    config = ModelConfig.model_validate({"max_position_embeddings": row.length, **SHAPES[row.shape]})
    torch.set_default_dtype(DTYPES[row.weights])
    with parallel.device:
        model = Decoder(config)
    torch.set_default_dtype(torch.float32)
    model.init_weights(torch.Generator(parallel.device).manual_seed(0))
    trainer = Trainer(
        model,
        OptimizerConfig(lr=1e-5, offload=row.offload),
        next_token_objective(parallel.device),
        parallel,
        PrecisionConfig(compute="bfloat16", weights=row.weights, float8=row.float8),
        recompute=row.recompute,
        compiled=row.compile,
    )
    rng = np.random.default_rng(parallel.rank)
    found = timed(row, lambda batches: trainer.step(batches, 1e-5).loss, rng, config.known_vocab_size)
    flops = [
        n * config.flops_per_token(n) for batches in found.pop("batches") for b in batches for r in b.lengths for n in r
    ]
    seconds = found["seconds"]
    tokens = row.rows * row.length * row.micro_batches
    mean_flops = sum(flops) / (row.steps + WARM_UP)
    found |= {"tokens_per_second": tokens / seconds, "mfu": mean_flops / seconds / PEAK}
    found |= {"predicted_gib": predicted_gib(row, config)}
    if row.ranks > 1:
        parallel.barrier()
        close()
    return found if parallel.rank == 0 else {}


def predicted_gib(row: Row, config: ModelConfig) -> float:
    """What `plan` predicts for `gib`."""
    precision = PrecisionConfig(compute="bfloat16", weights=row.weights)
    shape = Batch(row.rows, row.length, row.micro_batches)
    training = Training(
        config, shape, precision, recompute=row.recompute, compiled=row.compile, ranks=row.ranks, on_gpu=True
    )
    return predict(training).peak / GIB


def theirs(row: Row) -> dict[str, Any]:
    """Measures transformers."""
    import transformers

    config = ModelConfig.model_validate({"max_position_embeddings": row.length, **SHAPES[row.shape]})
    llama = transformers.LlamaConfig(**SHAPES[row.shape], max_position_embeddings=row.length, use_cache=False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model: Any = transformers.LlamaForCausalLM(llama)
    torch.set_default_dtype(torch.float32)
    model.train()
    if row.peer == "checkpointed":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    call = torch.compile(model) if row.peer == "compiled" else model

    def step(batches: list[Any]) -> float:
        for b in batches:
            ids = torch.from_numpy(b.tokens_BT).cuda()
            loss = call(input_ids=ids, labels=ids).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    found = timed(row, step, np.random.default_rng(0), config.known_vocab_size)
    found.pop("batches")
    tokens = row.rows * row.length * row.micro_batches
    speed = tokens / found["seconds"]
    mfu = speed * config.flops_per_token(row.length) / PEAK
    return found | {"tokens_per_second": speed, "mfu": mfu, "transformers": transformers.__version__}


def timed(row: Row, step: Any, rng: np.random.Generator, vocabulary: int) -> dict[str, Any]:
    """Runs the steps, then one more under the profiler, which names the kernels of attention and of products in fp8."""
    batches = [[batch(row, vocabulary, rng) for _ in range(row.micro_batches)] for _ in range(row.steps + WARM_UP)]
    times, loss = [], float("nan")
    for b in batches:
        torch.cuda.synchronize()
        start = time.perf_counter()
        loss = step(b)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(batches[0])
        torch.cuda.synchronize()
    kernels = sorted(((e.self_device_time_total / 1e3, e.key) for e in profile.key_averages()), reverse=True)
    attention = [name[:60] for _, name in kernels if "flash" in name or "sdpa" in name or "fmha" in name]
    fp8 = [name[:60] for _, name in kernels if re.search("e4m3|e5m2|fp8|nvjet_[qr]", name)]
    return {
        "seconds": statistics.median(times[WARM_UP:]),
        "times": times,
        "gib": memory,
        "loss": loss,
        "attention": attention[:4],
        "fp8": fp8[:4],
        "kernels_ms": sum(ms for ms, _ in kernels),
        "top": [[round(ms, 1), name[:80]] for ms, name in kernels[:16]],
        "batches": batches,
    }


def child(name: str) -> None:
    row = ROWS[name]
    found = theirs(row) if row.peer else ours(row)
    if found:
        print(json.dumps(found), flush=True)


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Runs a row in its own process or processes."""
    row = ROWS[name]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(row.ranks)] if row.ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "benchmarks.speed.gpu", "--child", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=os.environ)
    except subprocess.TimeoutExpired:
        return {"error": f"no result after {seconds:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"error": done.stderr[-1500:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=540.0, help="time for this call; the rest is left to the next")
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    end = time.monotonic() + arguments.seconds
    done = (
        {json.loads(line)["row"] for line in arguments.out.read_text().splitlines()}
        if arguments.out.exists()
        else set()
    )
    for name in arguments.rows:
        left = end - time.monotonic()
        if name in done or left < 20 or ROWS[name].ranks > torch.cuda.device_count():
            continue
        found = {"row": name, **asdict(ROWS[name]), "gpu": torch.cuda.get_device_name(0), "torch": torch.__version__}
        found |= measure(name, left)
        with arguments.out.open("a") as out:
            out.write(json.dumps(found) + "\n")
        shown = {
            key: found[key]
            for key in ("tokens_per_second", "mfu", "gib", "predicted_gib", "attention", "error")
            if key in found
        }
        print(name, json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
