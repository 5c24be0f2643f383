"""The pretrain stage: phases → mixture → trainer → base model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from thinkling.data.artifact import write_json
from thinkling.data.mixture import MixtureLoader, MixturePhase, check_epochs
from thinkling.data.packing import PackedBatch, SourceRows, pack_rows
from thinkling.data.shards import TokenSource, open_sources
from thinkling.data.tokenizer import Tokenizer
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained
from thinkling.stages.base import StageContext
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.pretrain.phases import check_order, phase_of, resolve, schedule
from thinkling.stages.training import mean_loss, train_to_directory
from thinkling.train.parallel import setup


def run(config: PretrainConfig, ctx: StageContext) -> None:
    """Trains through all phases and exports the base model.

    Raises UserError if mixture and learning rate change together, a mixture names an unknown source, or a source would
    be repeated beyond its limit; nothing has been trained then.
    """
    torch.set_num_threads(ctx.threads)
    parallel = setup()
    tokens = ctx.inputs["tokens"]
    tokenizer_dir = tokens.file("tokenizer")
    tokenizer = Tokenizer.load(tokenizer_dir)
    sources = open_sources(tokens.file("shards"))
    model = make_model(ctx, tokenizer.vocab_size)
    check_order(config.phases)
    phases = resolve(config, model.config.rope_theta)
    loader = MixtureLoader(
        [
            MixturePhase(n_rows=p.rows, sequence_length=p.sequence_length, shares=p.shares, batch_size=p.batch_size)
            for p in phases
        ],
        sources,
        ctx.seed,
        phases[0].batch_size,
        parallel.rank,
        parallel.world_size,
        config.micro_batch_size,
        tokenizer.pad_id,
    )
    usage = loader.usage()
    check_epochs(usage, {name: config.max_epochs.get(name, config.default_max_epochs) for name in sources})
    holdout = holdout_batches(
        tokens.path / "holdout", config.validation_rows, phases[-1].sequence_length, tokenizer.pad_id
    )
    losses: dict[str, dict[str, float]] = {}

    def before_step(step: int) -> None:
        theta = phase_of(phases, step).rope_theta
        if theta != model.config.rope_theta:
            model.set_rope_theta(theta)

    def after_step(step: int, trained: nn.Module) -> None:
        phase = phase_of(phases, step)
        if step == phase.first_step + phase.steps - 1:
            losses[phase.name] = {n: mean_loss(trained, b, parallel.device) for n, b in holdout.items()}
            if parallel.rank == 0:
                write_json(
                    ctx.directory / "holdout" / f"{phases.index(phase)}.json",
                    {"phase": phase.name, **losses[phase.name]},
                )

    (ctx.directory / "holdout").mkdir(exist_ok=True)
    train_to_directory(
        ctx,
        model,
        config.optimizer,
        loader.batches,
        schedule(phases),
        loader.n_steps,
        config.checkpoint_every,
        parallel,
        tokens_per_step=lambda step: config.batch_tokens,
        tokenizer_dir=tokenizer_dir,
        label="pretrain",
        before_step=before_step,
        after_step=after_step,
        fields=lambda step: {"phase": phase_of(phases, step).name, "rows": loader.rows_by_source(step)},
    )
    ctx.counts.update(
        steps=loader.n_steps,
        tokens=sum(p.tokens for p in phases),
        parameters=model.config.parameter_count(),
        phase_ends=[p.first_step + p.steps for p in phases],
        sources={name: dict(used) for name, used in usage.items()},
    )


def make_model(ctx: StageContext, vocab_size: int) -> Decoder:
    """The model to train: the given one, or a fresh one of the recipe's shape, drawn from the stage's seed."""
    if "model" in ctx.inputs:
        return load_pretrained(ctx.inputs["model"].model_dir)
    assert ctx.model is not None
    shape = ctx.model if ctx.model.vocab_size else ctx.model.model_copy(update={"vocab_size": vocab_size})
    model = Decoder(shape)
    model.init_weights(torch.Generator().manual_seed(ctx.seed))
    return model


def holdout_batches(directory: Path, n_rows: int, sequence_length: int, pad_id: int) -> dict[str, list[PackedBatch]]:
    """Up to `n_rows` rows a source of the documents put aside, each document at most once."""
    if not n_rows or not directory.is_dir():
        return {}
    batches = {}
    for name, source in open_sources(directory).items():
        rows = _rows_of_one_epoch(source, sequence_length, n_rows)
        batches[name] = [
            pack_rows([(source, row) for row in rows[i : i + 8]], sequence_length, pad_id)
            for i in range(0, len(rows), 8)
        ]
    return batches


def _rows_of_one_epoch(source: TokenSource, sequence_length: int, limit: int) -> list:
    rows, packed = [], SourceRows(source, 0, sequence_length)
    while len(rows) < limit and packed.cursor_after(len(rows) + 1).ordinal < source.n_documents:
        rows.append(packed.row(len(rows)))
    return rows or [packed.row(0)]
