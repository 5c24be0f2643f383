"""A training run as data, and how it is carried out: resumed, logged, exported."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from thinkling.data.prefetch import Prefetcher
from thinkling.generate.renderer import Renderer
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.stages.base import StageContext
from thinkling.stages.training.callbacks import (
    Logged,
    ProgressBar,
    RunValidation,
    StepLog,
    Validation,
    count_and_sums,
)
from thinkling.stages.training.config import TrainingConfig
from thinkling.stages.training.objective import next_token_objective
from thinkling.stages.training.state import KeptState, write_kept
from thinkling.stages.training.trackers import make_trackers
from thinkling.train.callback import Callback
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import Objective, Trainer, fit


@dataclass(frozen=True)
class TrainingPlan:
    """All that a training run depends on."""

    model: Decoder
    """Trained in place."""
    optimizer: OptimizerConfig
    batches: Callable[[int], Sequence[Any] | None]
    """Step → this rank's micro-batches, as many on every rank; None, on all ranks, for a step without an update."""
    learning_rate: Callable[[int], float]
    """Step → learning rate."""
    total_steps: int
    """Steps count from 0, or from where `start` ends, to this."""
    tokens_per_step: Callable[[int], int]
    """Step → its tokens over all ranks, for bars and speeds."""
    tokenizer_dir: Path
    """Tokenizer to export with the model."""
    renderer: Renderer | None = None
    """How conversations were written, where there were any: exported with the model."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    objective: Objective | None = None
    """Next-token loss where None."""
    logged: Logged = count_and_sums
    """What metrics.jsonl holds of a step."""
    callbacks: Sequence[Callback] = ()
    """The stage's own; called before logs and trackers."""
    validation: Validation | None = None
    start: KeptState | None = None
    """State of another stage to start from."""
    first_step: int = 0
    """Number of the first step; above 0 where the steps of `start` count."""
    keep: Mapping[str, Any] | None = None
    """Facts (JSON) to keep with the final state; the state is not kept where None."""
    prefetch: int = 2
    """Batches made while a step trains; 0 where a batch depends on the step before it."""
    unit: str = "tokens"
    """What `tokens_per_step` counts."""


def kept_facts(config: TrainingConfig, **facts: Any) -> Mapping[str, Any] | None:
    """`TrainingPlan.keep` of a stage."""
    return facts if config.keep_state else None


def train(plan: TrainingPlan, ctx: StageContext, parallel: Parallel) -> None:
    """Trains and leaves `model/`, the logs and, where asked for, `state/` in the stage's directory; continues from the
    last checkpoint.

    `checkpoints/` is called `checkpoints.done` once training is over, until it is deleted: a run killed in between does
    not train again.
    """
    working, over = ctx.directory / "checkpoints", ctx.directory / "checkpoints.done"
    if not over.exists():
        trainer = Trainer(plan.model, plan.optimizer, plan.objective or next_token_objective(parallel.device), parallel)
        checkpoints = Checkpoints(working, plan.checkpoint_every)
        if plan.start is not None and checkpoints.latest(parallel) is None:
            plan.start.load(trainer.state_tensors(), parallel)
        with Prefetcher(plan.batches, plan.total_steps, plan.prefetch) as batches:
            callbacks = _callbacks(plan, ctx, parallel, trainer.model)
            fit(trainer, batches, plan.learning_rate, plan.total_steps, checkpoints, callbacks, plan.first_step)
        export(trainer.model, ctx.directory / "model", plan.tokenizer_dir, parallel, plan.renderer)
        if plan.keep is not None:
            write_kept(ctx.directory, plan.total_steps, plan.keep, trainer.state_tensors(), parallel)
        if parallel.rank == 0 and working.exists():
            working.rename(over)
    parallel.barrier()
    if parallel.rank == 0:
        shutil.rmtree(over, ignore_errors=True)


def _callbacks(plan: TrainingPlan, ctx: StageContext, parallel: Parallel, model: nn.Module) -> list[Callback]:
    """The stage's own, then logs and trackers on rank 0, then validation, which tells all of them."""
    callbacks = list(plan.callbacks)
    if parallel.rank == 0:
        steps = range(plan.first_step, plan.total_steps)
        callbacks += [
            ProgressBar(ctx.progress, ctx.name, plan.tokens_per_step, steps, plan.unit),
            StepLog(ctx.directory, plan.tokens_per_step, plan.logged, plan.unit),
            *make_trackers(ctx, plan.tokens_per_step, plan.logged, plan.unit),
        ]
    if plan.validation is not None:
        callbacks.append(RunValidation(plan.validation, model, list(callbacks)))
    return callbacks


def export(
    model: nn.Module, directory: Path, tokenizer_dir: Path, parallel: Parallel, renderer: Renderer | None = None
) -> None:
    """Writes a Hugging Face directory, with the chat template of `renderer` if one is given; sharded weights are
    gathered, rank 0 writes."""
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
        if renderer is not None:
            renderer.export(directory)
