"""The sft stage: conversations → tokens on disk → packed rows → trainer → a model that thinks."""

from __future__ import annotations

import shutil

from thinkling.data.packing import PackedBatch
from thinkling.errors import UserError
from thinkling.generate.loaded import LoadedModel
from thinkling.model.lora import add_adapters
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.encoding import DIRECTORY, encoded_conversations, restore_ledger
from thinkling.stages.sft.mixing import counts_of, rows_of
from thinkling.stages.sft.validation import DIRECTORY as VALIDATION
from thinkling.stages.sft.validation import validation_batches
from thinkling.stages.training.callbacks import count_and_means
from thinkling.stages.training.evaluation import evaluation_of
from thinkling.stages.training.fitting import stage_memory
from thinkling.stages.training.left_out import LeftOut
from thinkling.stages.training.objective import next_token_objective
from thinkling.stages.training.plan import TrainingPlan, kept_facts, train
from thinkling.stages.training.state import read_kept
from thinkling.train.parallel import setup
from thinkling.train.precision import DTYPES


def run(config: SftConfig, ctx: StageContext) -> None:
    """Trains on conversations and exports the model.

    Raises UserError if no conversation is left to train on, if there are fewer rows than one step needs, or if a source
    would be repeated too often.
    """
    parallel = setup(config.parallel)
    if config.batch_size % parallel.world_size:
        raise UserError(
            f"batch_size {config.batch_size} is not divisible by the number of processes, {parallel.world_size}; "
            "change one of them"
        )
    start = ctx.inputs["model"].model_dir
    loaded = LoadedModel.load(
        start, parallel.device, DTYPES[config.precision.weights], trainable=True, chat=config.chat
    )
    if config.lora is not None:
        add_adapters(loaded.decoder, config.lora, derive(ctx.seed, "lora"))
    restore_ledger(ctx, parallel)
    left_out = LeftOut.of(config, ctx, parallel, config.validation_fraction)
    encoded = encoded_conversations(config, ctx, loaded.renderer, left_out, parallel)
    rows = rows_of(config, encoded, ctx.seed, ctx.progress, f"{ctx.name}: packing")
    ctx.counts.update(counts_of(config, encoded, rows), **left_out.counts())
    mine = config.batch_size // parallel.world_size
    micro = config.micro_batch_size or mine
    n_drawn = left_out.n_validation + left_out.n_unmeasured
    validation = validation_batches(config, ctx, n_drawn, micro, loaded.tokenizer.pad_id)

    def batches(step: int) -> list[PackedBatch]:
        first = step * config.batch_size + parallel.rank * mine
        starts = range(first, first + mine, micro)
        return [rows.mixed.batch(i, min(i + micro, first + mine), loaded.tokenizer.pad_id) for i in starts]

    plan = TrainingPlan(
        model=loaded.decoder,
        optimizer=config.optimizer,
        precision=config.precision,
        recompute=config.recompute,
        compile=config.compile,
        spikes=config.spikes,
        seed=ctx.seed,
        batches=batches,
        learning_rate=config.schedule(rows.steps),
        total_steps=rows.steps,
        tokens_per_step=lambda step: config.batch_size * config.sequence_length,
        tokenizer_dir=start,
        renderer=loaded.renderer,
        checkpoint_every=config.checkpoint_every,
        async_checkpoints=config.async_checkpoints,
        objective=next_token_objective(parallel.device, config.z_loss),
        logged=count_and_means,
        evaluation=evaluation_of(config, ctx, loaded, left_out, parallel, validation),
        start=read_kept(ctx.inputs["state"]) if "state" in ctx.inputs else None,
        keep=kept_facts(config),
        memory=stage_memory(config, loaded.decoder.config, parallel.world_size, parallel.device.type == "cuda"),
        dry_run_step=config.dry_run_step,
    )
    train(plan, ctx, parallel)
    encoded.close()
    if parallel.rank == 0:
        shutil.rmtree(ctx.directory / DIRECTORY)
        shutil.rmtree(ctx.directory / VALIDATION)
