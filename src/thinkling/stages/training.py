"""What stages that train share: an objective, logs that a resumed run cuts where it goes on, and the last export."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinkling.data.packing import PackedBatch
from thinkling.data.prefetch import Prefetcher
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.model.loss import chunked_cross_entropy
from thinkling.progress import Task
from thinkling.stages.base import StageContext
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import Objective, StepMetrics, Trainer, fit

METRICS, LOG = "metrics.jsonl", "train.log.jsonl"
"""One line a step. The first is the same in every run; the second holds times and speeds."""


def next_token_objective(device: torch.device) -> Objective:
    """Cross-entropy of the labels of a PackedBatch, documents isolated from each other; no logs of its own."""

    def objective(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
        assert isinstance(model, Decoder)
        layout = DocumentLayout.from_lengths(batch.lengths, batch.tokens_BT.shape[1], device)
        x_BTD = model(torch.from_numpy(batch.tokens_BT).to(device), layout)
        labels_N = torch.from_numpy(batch.labels_BT).to(device).flatten()
        return chunked_cross_entropy(x_BTD.flatten(0, 1), model.output_weight, labels_N), batch.n_loss_tokens, {}

    return objective


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[PackedBatch], device: torch.device) -> float:
    """Mean loss a loss token over batches, in nats."""
    objective = next_token_objective(device)
    parts = [objective(model, batch)[:2] for batch in batches]
    return sum(float(loss) for loss, _ in parts) / max(1, sum(n for _, n in parts))


def count_and_sums(metrics: StepMetrics) -> dict[str, Any]:
    """What a step logs unless told: its loss tokens, and the objective's metrics as they were summed."""
    return {"loss_tokens": metrics.n_tokens, **metrics.metrics}


class StepLog:
    """metrics.jsonl and train.log.jsonl of a stage, and its progress bar."""

    def __init__(
        self,
        directory: Path,
        task: Task,
        rank: int,
        tokens_per_step: Callable[[int], int],
        logged: Callable[[StepMetrics], dict[str, Any]] = count_and_sums,
        unit: str = "tokens",
    ) -> None:
        self.directory, self.task, self.rank, self.tokens_per_step = directory, task, rank, tokens_per_step
        self.logged, self.unit = logged, unit
        self._last = time.monotonic()
        self._files: list[Any] = []

    def open(self, first_step: int) -> None:
        """Opens both files for the lines from `first_step` on; what a killed run wrote beyond it is cut off."""
        if self.rank:
            return
        for name in (METRICS, LOG):
            path = self.directory / name
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < first_step]
            temporary = path.with_name(name + ".tmp")
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            temporary.replace(path)
            self._files.append(path.open("a", encoding="utf-8", buffering=1))
        self._last = time.monotonic()

    def write(self, step: int, metrics: StepMetrics, lr: float, **fields: Any) -> None:
        """A line a step in both files."""
        tokens = self.tokens_per_step(step)
        self.task.advance(tokens, loss=metrics.loss, lr=lr)
        if self.rank:
            return
        now = time.monotonic()
        line = {"step": step, "loss": metrics.loss, "lr": lr, "grad_norm": metrics.grad_norm}
        self._files[0].write(json.dumps({**line, **self.logged(metrics), **fields}) + "\n")
        speed = {
            "step": step,
            "seconds": round(now - self._last, 5),
            f"{self.unit}_per_second": round(tokens / (now - self._last), 1),
        }
        self._files[1].write(json.dumps(speed) + "\n")
        self._last = now

    def close(self) -> None:
        for file in self._files:
            file.close()


def train_to_directory(
    ctx: StageContext,
    model: Decoder,
    optimizer: OptimizerConfig,
    batches: Callable[[int], Sequence[Any]],
    lr: Callable[[int], float],
    total_steps: int,
    checkpoint_every: int,
    parallel: Parallel,
    tokens_per_step: Callable[[int], int],
    tokenizer_dir: Path,
    label: str,
    before_step: Callable[[int], None] | None = None,
    after_step: Callable[[int, nn.Module], None] | None = None,
    fields: Callable[[int], dict[str, Any]] | None = None,
    objective: Objective | None = None,
    logged: Callable[[StepMetrics], dict[str, Any]] = count_and_sums,
    ahead: int = 2,
    unit: str = "tokens",
) -> None:
    """Trains and leaves `model/` and the logs in the stage's directory; goes on from its last checkpoint.

    `objective`: next token unless given. `logged`: what metrics.jsonl says of a step's count and metrics.
    `ahead`: batches made while a step trains; 0 where a batch depends on the step before it. `unit`: what
    `tokens_per_step` counts.
    `checkpoints/` bears the name `checkpoints.done` once training is over, until it is deleted: a run killed in between
    does not train again.
    """
    working, over = ctx.directory / "checkpoints", ctx.directory / "checkpoints.done"
    if not over.exists():
        trainer = Trainer(model, optimizer, objective or next_token_objective(parallel.device), parallel)
        checkpoints = Checkpoints(working, checkpoint_every)
        latest = checkpoints.latest(parallel)
        first = int(latest.name.removeprefix("step-")) if latest else 0
        done = sum(tokens_per_step(step) for step in range(first))
        total = sum(tokens_per_step(step) for step in range(total_steps))
        with ctx.progress.track(label, total, unit, done) as task, Prefetcher(batches, total_steps, ahead) as made:
            log = StepLog(ctx.directory, task, parallel.rank, tokens_per_step, logged, unit)
            log.open(first)

            def on_metrics(step: int, metrics: StepMetrics) -> None:
                log.write(step, metrics, lr(step), **(fields(step) if fields else {}))
                if after_step is not None:
                    after_step(step, trainer.model)

            fit(trainer, made, lr, total_steps, checkpoints, before_step, on_metrics)
            log.close()
        export(trainer.model, ctx.directory / "model", tokenizer_dir, parallel)
        if parallel.rank == 0 and working.exists():
            working.rename(over)
    parallel.barrier()
    if parallel.rank == 0:
        shutil.rmtree(over, ignore_errors=True)


def export(model: nn.Module, directory: Path, tokenizer_dir: Path, parallel: Parallel) -> None:
    """Writes a Hugging Face directory; sharded weights are gathered, rank 0 writes."""
    from torch.distributed.tensor import DTensor

    assert isinstance(model, Decoder)
    state = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in model.state_dict().items()}
    if parallel.rank == 0:
        whole = model
        if parallel.world_size > 1:
            whole = Decoder(model.config)
            whole.load_state_dict(state)
        shutil.rmtree(directory, ignore_errors=True)
        save_pretrained(whole, directory, tokenizer_dir, {"temperature": 0.6, "top_p": 0.95, "do_sample": True})
