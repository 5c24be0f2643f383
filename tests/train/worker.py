"""A training run as a process of its own, for tests that kill it or start several of it under torchrun's environment.

`python worker.py '[{"directory": …, "out": …, "steps": …, "every": …, "micro_batch_size": …}, …]'` runs the jobs in
turn and writes for each `out`, JSON: the curve, and the SHA-256 of all final tensors and of each rank's own parts of
them. Other keys: `shape`, `tied`, `seed`, `optimizer`, `precision`, `parallel`, `background`.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.loss import chunked_cross_entropy
from thinkling.train import parallel
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig, ParallelConfig, PrecisionConfig
from thinkling.train.trainer import Trainer, fit

VOCAB, ROWS, LENGTH = 48, 8, 24
Batch = tuple[Tensor, Tensor, tuple[tuple[int, ...], ...]]


def decoder(tied: bool = True, seed: int = 0, **shape: int) -> Decoder:
    config = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "tie_word_embeddings": tied,
    }
    model = Decoder(ModelConfig.model_validate(config | shape))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def rows(step: int) -> list[Batch]:
    """The step's rows of two documents and some padding; a row bears between 0 and all its tokens' losses."""
    generator = torch.Generator().manual_seed(7 + step)
    batch = []
    for row in range(ROWS):
        first = int(torch.randint(2, 12, (), generator=generator))
        start = torch.randint(VOCAB, (1, 1), generator=generator)
        tokens = (start + 5 * torch.arange(LENGTH)) % VOCAB
        labels = (tokens + 5) % VOCAB
        labels[:, (row * 7 + step) % LENGTH :] = -100
        batch.append((tokens, labels, ((first, LENGTH - first - 2),)))
    return batch


def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, int, dict[str, float | Tensor]]:
    tokens, labels, lengths = batch
    x = model(tokens, DocumentLayout.from_lengths(lengths, LENGTH))
    loss = chunked_cross_entropy(x.flatten(0, 1), model.output_weight, labels.flatten())  # pyright: ignore
    return loss, int((labels != -100).sum()), {"rows": float(len(tokens))}


def micro_batches(step: int, micro_batch_size: int, rank: int = 0, world_size: int = 1) -> list[Batch]:
    """This rank's share of the step's rows, `micro_batch_size` at a time."""
    mine = rows(step)[rank::world_size]
    return [
        (
            torch.cat([r[0] for r in mine[i : i + micro_batch_size]]),
            torch.cat([r[1] for r in mine[i : i + micro_batch_size]]),
            tuple(r[2][0] for r in mine[i : i + micro_batch_size]),
        )
        for i in range(0, len(mine), micro_batch_size)
    ]


def run(job: dict[str, Any], place: parallel.Parallel) -> dict[str, Any]:
    """Train as the job says; the curve of the steps run here, and digests of the final state."""
    torch.manual_seed(0)  # the state of torch's generator is part of the checkpoints
    model = decoder(job.get("tied", True), job.get("seed", 0), **job.get("shape", {}))
    precision = PrecisionConfig(**job.get("precision", {}))
    settings = OptimizerConfig(name=job.get("optimizer", "adamw"), offload=job.get("offload", False))
    trainer = Trainer(model, settings, objective, place, precision)
    if job.get("dry_run"):
        trainer.dry_run(micro_batches(0, job["micro_batch_size"], place.rank, place.world_size))
    curve: dict[int, StepMetrics] = {}

    class Curve(Callback):
        def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
            curve[step] = metrics

    fit(
        trainer,
        lambda step: micro_batches(step, job["micro_batch_size"], place.rank, place.world_size),
        lambda step: 0.01 / (1 + step),
        job["steps"],
        Checkpoints(Path(job["directory"]), job["every"], background=job.get("background", False)),
        [Curve()],
    )
    state = dict(sorted(trainer.state_tensors().items()))
    whole = {name: x.full_tensor() if isinstance(x, DTensor) else x for name, x in state.items()}
    parts = {name: x.to_local() if isinstance(x, DTensor) else x for name, x in state.items()}
    return {
        "curve": {str(step): [m.loss, m.grad_norm, m.n_tokens, m.metrics["rows"]] for step, m in curve.items()},
        "digest": digest_of(whole),
        "parts": digest_of(parts),
    }


def digest_of(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode() + tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(jobs: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    place = parallel.setup()
    for job in jobs:
        report = run(job, replace(place, config=ParallelConfig(**job.get("parallel", {}))))
        all_parts: list[Any] = [report["parts"]]
        if place.world_size > 1:
            all_parts = [None] * place.world_size
            torch.distributed.all_gather_object(all_parts, report["parts"])
        if place.rank == 0:
            Path(job["out"]).write_text(json.dumps(report | {"parts": all_parts}))
    parallel.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
