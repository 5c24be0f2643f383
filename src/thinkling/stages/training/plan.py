"""The plan of a training run, and its execution: resuming, logging and export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thinkling.data.prefetch import Prefetcher
from thinkling.data.seals import SUFFIX, check, require, seal, seal_of
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.model.decoder import Decoder
from thinkling.stages.base import StageContext
from thinkling.stages.training.average import AVERAGE, apply_average
from thinkling.stages.training.callbacks import (
    CHECKPOINTS,
    METRICS,
    Logged,
    ProgressBar,
    RunValidation,
    StepLog,
    Validation,
    count_and_sums,
    n_skipped,
)
from thinkling.stages.training.config import TrainingConfig
from thinkling.stages.training.dry_run import DryRun, dry_run, wanted
from thinkling.stages.training.evaluation import (
    BEST,
    FILE,
    Evaluation,
    RunEvaluation,
    best_step,
    best_weights,
    read_lines,
    summary,
)
from thinkling.stages.training.export import ADAPTERS, CheckpointFiles, export
from thinkling.stages.training.fitting import FITS, StageMemory, cures, gib, sentence
from thinkling.stages.training.memory import predict
from thinkling.stages.training.objective import next_token_objective
from thinkling.stages.training.roll_back import RollBack, Spike
from thinkling.stages.training.state import DIRECTORY as STATE
from thinkling.stages.training.state import KeptState, write_kept
from thinkling.stages.training.trackers import make_trackers
from thinkling.train.average import WeightAverage
from thinkling.train.callback import Callback
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig, Recompute, SpikesConfig
from thinkling.train.parallel import Parallel
from thinkling.train.spikes import SpikeGuard
from thinkling.train.trainer import Objective, Trainer, fit


@dataclass(frozen=True)
class TrainingPlan:
    """Everything on which a training run depends."""

    model: Decoder
    """Model to train. It is trained in place."""
    optimizer: OptimizerConfig
    batches: Callable[[int], Sequence[Any] | None]
    """Step → micro-batches of this rank. The number of micro-batches is the same on all ranks. For a step without an
    update, the result is None on all ranks."""
    learning_rate: Callable[[int], float]
    """Step → learning rate."""
    total_steps: int
    """Number of the step at which training ends. Training covers the steps from `first_step` up to, but not including,
    this step."""
    tokens_per_step: Callable[[int], int]
    """Step → number of tokens over all ranks, used for progress bars and speeds."""
    tokenizer_dir: Path
    """Directory of the tokenizer that is exported with the model."""
    renderer: Renderer | None = None
    """Renderer of the conversations, if there are any. It is exported with the model."""
    precision: PrecisionConfig | None = None
    """Dtypes of the computation and of the weights. The model is converted to the dtype of the weights. If None, both
    are fp32."""
    seed: int = 0
    """Seed for stochastic rounding."""
    recompute: Recompute = "none"
    """What the backward pass computes again instead of keeping it."""
    compile: bool = False
    """Whether layers are compiled (on a GPU)."""
    spikes: SpikesConfig | None = None
    """Which steps are skipped. If None, no step is skipped."""
    checkpoint_every: int = 500
    """Number of steps between checkpoints."""
    async_checkpoints: bool = False
    """Whether checkpoints are written in the background."""
    objective: Objective | None = None
    """Training objective. Defaults to the next-token loss."""
    logged: Logged = count_and_sums
    """Computes the values of a step that are written to metrics.jsonl."""
    callbacks: Sequence[Callback] = ()
    """The stage's own callbacks. They are called before logs and trackers."""
    validation: Validation | None = None
    average: Callable[[int], bool] | None = None
    """Whether the weights after a step are part of the average, which is exported instead of the weights of the last
    step. If None, weights are not averaged."""
    evaluation: Evaluation | None = None
    """Scores and losses that are measured during training. With `keep_best`, they determine the step whose model is
    exported."""
    start: KeptState | None = None
    """State of another stage from which training continues."""
    first_step: int = 0
    """Number of the first step. It is greater than 0 if step numbers continue those of the stage that stored
    `start`."""
    keep: Mapping[str, Any] | None = None
    """Facts, as JSON values, that are stored together with the final training state. If None, the state is not
    stored."""
    prefetch: int = 2
    """Number of batches that are prepared while a step trains. Must be 0 if a batch depends on the previous step."""
    unit: str = "tokens"
    """Unit in which `tokens_per_step` counts."""
    memory: StageMemory | None = None
    """The shapes of the micro-batches, for predictions of the memory. If None, there is no dry-run step."""
    dry_run_step: bool | None = False
    """Whether a step of the largest shapes is computed and discarded before training; if None, on a GPU only. The
    micro-batches must be PackedBatches of the shapes in `memory`."""


def kept_facts(config: TrainingConfig, **facts: Any) -> Mapping[str, Any] | None:
    """Returns the value of `TrainingPlan.keep` for a stage: the facts, or None if the stage does not store its
    state."""
    return facts if config.keep_state else None


def train(plan: TrainingPlan, ctx: StageContext, parallel: Parallel) -> None:
    """Trains the model and writes `model/`, `adapter/` if the model has adapters, the logs and optionally `state/` to
    the stage's directory. A resumed run continues from the latest checkpoint.

    The seal (digest file) of metrics.jsonl is written last and marks the end of training. A run that is killed
    afterwards does not train again.

    Raises UserError if files that a killed run left are corrupt and cannot be recreated.
    """
    working, best = ctx.directory / CHECKPOINTS, ctx.directory / BEST
    if not seal_of(ctx.directory / METRICS).is_file():
        objective = plan.objective or next_token_objective(parallel.device)
        trainer = Trainer(
            plan.model, plan.optimizer, objective, parallel, plan.precision, plan.seed, plan.recompute, plan.compile
        )
        if plan.spikes is not None:
            trainer.guard = SpikeGuard(plan.spikes)
        checkpoints = Checkpoints(
            working, plan.checkpoint_every, warn=ctx.progress.warn, background=plan.async_checkpoints
        )
        if plan.start is not None and checkpoints.latest(parallel) is None:
            plan.start.load(trainer.state_tensors(), parallel)
        assert isinstance(trainer.model, Decoder)
        if plan.average is not None:
            trainer.average = WeightAverage(trainer.model, plan.average)
        with _memory_errors(plan, ctx, parallel):
            _fit(plan, ctx, parallel, trainer, checkpoints)
        average, trainer.average = trainer.average, None  # a stage that continues from the state averages anew
        if plan.keep is not None:
            write_kept(ctx.directory, plan.total_steps, plan.keep, trainer.state_tensors(), parallel)
        if average is not None:
            apply_average(average, trainer.model, plan.validation, ctx, parallel)
        _export(plan, ctx, parallel, trainer.model)
        parallel.barrier()
        if parallel.rank == 0:
            for name in ("model", ADAPTERS, STATE, FILE, AVERAGE, METRICS):
                if (ctx.directory / name).exists():
                    seal(ctx.directory / name)
    elif parallel.rank == 0:
        check(ctx.directory, (working, best))
    parallel.barrier()
    if parallel.rank == 0:
        shutil.rmtree(best, ignore_errors=True)
        shutil.rmtree(working, ignore_errors=True)
    if plan.spikes is not None:
        ctx.counts["skipped_steps"] = n_skipped(ctx.directory)
    if plan.average is not None:
        ctx.counts["average"] = json.loads((ctx.directory / AVERAGE).read_text(encoding="utf-8"))
    if plan.evaluation is not None:
        ctx.counts["evaluation"] = summary(ctx.directory, plan.evaluation.keep_best)


def _fit(plan: TrainingPlan, ctx: StageContext, parallel: Parallel, trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Trains until the last step. After a spike, training may return to a checkpoint."""
    assert isinstance(trainer.model, Decoder)
    tested = _dry_run(plan, ctx, parallel, trainer)
    roll_back = None
    if plan.spikes is not None and plan.spikes.action == "roll_back":
        roll_back = RollBack(ctx.directory, plan.spikes, plan.first_step, plan.checkpoint_every, parallel)
    while True:
        source = plan.batches if roll_back is None else roll_back.without_skipped(plan.batches)
        first = [callback for callback in (roll_back, trainer.average) if callback is not None]
        callbacks = [*first, *_callbacks(plan, ctx, parallel, trainer.model, tested)]
        try:
            with Prefetcher(source, plan.total_steps, plan.prefetch) as batches:
                fit(trainer, batches, plan.learning_rate, plan.total_steps, checkpoints, callbacks, plan.first_step)
            return
        except Spike as spike:
            assert roll_back is not None
            message = roll_back.add(spike)
            if parallel.rank == 0:
                ctx.progress.warn(f"{ctx.name}: {message}")


def _export(plan: TrainingPlan, ctx: StageContext, parallel: Parallel, model: Decoder) -> None:
    """Writes `model/`: the weights of the best step with `keep_best`, otherwise the weights of the last step. For a
    model with adapters, `adapter/` is written as well."""
    directory, best = ctx.directory / "model", None
    if plan.evaluation is not None and plan.evaluation.keep_best:
        best = best_step(read_lines(ctx.directory / FILE))
        if best is None and parallel.rank == 0:
            ctx.progress.warn(f"stages.{ctx.name}.keep_best: no evaluation has a score; the last step is exported")
    if best is None:
        export(model, directory, plan.tokenizer_dir, parallel, plan.renderer, ctx.directory / ADAPTERS)
    elif parallel.rank == 0:
        require(best_weights(ctx.directory, best), ctx.directory)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(best_weights(ctx.directory, best), directory, ignore=shutil.ignore_patterns(f".*{SUFFIX}"))
        if model.lora is not None:
            shutil.rmtree(ctx.directory / ADAPTERS, ignore_errors=True)
            (directory / ADAPTERS).rename(ctx.directory / ADAPTERS)


def _dry_run(plan: TrainingPlan, ctx: StageContext, parallel: Parallel, trainer: Trainer) -> DryRun | None:
    """Runs the dry-run step, if there is one."""
    if plan.memory is None or not wanted(plan.dry_run_step, parallel.device):
        return None
    predicted = predict(plan.memory.worst).peak
    done = dry_run(trainer, plan.memory.batches, plan.model.config.known_vocab_size, predicted)
    if parallel.rank == 0:
        ctx.progress.note(f"{ctx.name}: {done.line()}")
    return done


@contextmanager
def _memory_errors(plan: TrainingPlan, ctx: StageContext, parallel: Parallel) -> Iterator[None]:
    """Raises UserError, with settings that need less memory, if the GPU has not enough memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        has = torch.cuda.get_device_properties(parallel.device).total_memory if parallel.device.type == "cuda" else None
        found = f"stages.{ctx.name}: the GPU has not enough memory" + (f" ({gib(has)})" if has else "")
        if plan.memory is None:
            raise UserError(f"{found}; use recompute: full, or smaller micro-batches") from error
        training = plan.memory.worst
        peak = predict(training).peak
        # The prediction may be below the memory if another process uses the GPU, or if memory is fragmented.
        limit = min(FITS * (has or peak), 0.9 * peak)
        advice = sentence(cures(plan.memory, training, limit))
        raise UserError(f"{found}; predicted peak of a step: {gib(peak)}; {advice}") from error


def _callbacks(
    plan: TrainingPlan, ctx: StageContext, parallel: Parallel, model: Decoder, tested: DryRun | None
) -> list[Callback]:
    """Returns the stage's own callbacks, followed by logs and trackers (on rank 0), followed by validation and
    evaluation, which notify all callbacks before them."""
    callbacks = list(plan.callbacks)
    steps = range(plan.first_step, plan.total_steps)
    if parallel.rank == 0:
        callbacks += [
            ProgressBar(ctx.progress, ctx.name, plan.tokens_per_step, steps, plan.unit),
            StepLog(ctx.directory, plan.tokens_per_step, plan.logged, plan.unit, tested.facts() if tested else None),
            *make_trackers(ctx, plan.tokens_per_step, plan.logged, plan.unit),
            CheckpointFiles(ctx.directory / CHECKPOINTS, model, plan.tokenizer_dir, plan.renderer),
        ]
    listeners = list(callbacks)
    if plan.validation is not None:
        callbacks.append(RunValidation(plan.validation, model, listeners))
    if plan.evaluation is not None:

        def write(directory: Path) -> None:
            export(model, directory, plan.tokenizer_dir, parallel, plan.renderer, directory / ADAPTERS)

        callbacks.append(RunEvaluation(plan.evaluation, model, ctx.directory, steps, listeners, parallel, write))
    return callbacks
