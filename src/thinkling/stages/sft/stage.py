"""The sft stage: problems → conversations → packed rows → trainer → thinking model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from thinkling.data.conversations import Conversation, read_conversations, write_conversations
from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.errors import UserError
from thinkling.generate.loaded import LoadedModel
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training import train_to_directory
from thinkling.train.parallel import setup
from thinkling.train.schedule import Schedule, Segment


def run(config: SftConfig, ctx: StageContext) -> None:
    """Trains on worked problems in chat form and exports the model.

    Raises UserError if no conversation fits a row, or fewer rows come together than one step needs.
    """
    torch.set_num_threads(ctx.threads)
    parallel = setup()
    start = ctx.inputs["model"].model_dir
    loaded = LoadedModel.load(start, parallel.device, trainable=True)
    made, read = list(make_conversations(config, ctx)), given_conversations(ctx)
    conversations = made + read
    if parallel.rank == 0:
        write_conversations(ctx.directory / "conversations.parquet", conversations)
    rendered = [loaded.renderer.encode(c.messages) for c in conversations]
    fitting = [item for item in rendered if len(item[0]) <= config.row_length]
    if not fitting:
        raise UserError(
            f"row_length {config.row_length}: every conversation is longer; the shortest has "
            f"{min(len(ids) for ids, _ in rendered)} tokens"
        )
    rows = pack_epochs(fitting, config.epochs, config.row_length, ctx.seed, loaded.tokenizer.pad_id)
    steps = min(len(rows.lengths) // config.batch_rows, config.max_steps or len(rows.lengths))
    if not steps:
        raise UserError(
            f"batch_rows {config.batch_rows}: there are only {len(rows.lengths)} rows; lower it, or take more examples"
        )
    if config.batch_rows % parallel.world_size:
        raise UserError(f"batch_rows {config.batch_rows} cannot be dealt evenly to {parallel.world_size} ranks")
    mine = config.batch_rows // parallel.world_size
    micro = config.micro_rows or mine

    def batches(step: int) -> list[PackedBatch]:
        first = step * config.batch_rows + parallel.rank * mine
        return [rows.rows(i, min(i + micro, first + mine)) for i in range(first, first + mine, micro)]

    train_to_directory(
        ctx,
        loaded.decoder,
        config.optimizer,
        batches,
        learning_rate(config, steps),
        steps,
        config.checkpoint_every,
        parallel,
        tokens_per_step=lambda step: config.batch_rows * config.row_length,
        tokenizer_dir=start,
        label=ctx.name,
    )
    ctx.counts.update(
        conversations=len(conversations),
        from_examples=len(made),
        from_conversations=len(read),
        kept=len(fitting),
        too_long=len(rendered) - len(fitting),
        rows=steps * config.batch_rows,
        rows_left_over=len(rows.lengths) - steps * config.batch_rows,
        steps=steps,
        tokens=sum(map(sum, rows.lengths[: steps * config.batch_rows])),
        loss_tokens=rows.rows(0, steps * config.batch_rows).n_loss_tokens,
    )


def make_conversations(config: SftConfig, ctx: StageContext) -> Iterator[Conversation]:
    """What the sources offer, in the order of the recipe."""
    for number, wanted in enumerate(config.example_sets):
        seed = derive(ctx.seed, "examples", number) if number else ctx.seed
        yield from ctx.sources[wanted.source].conversations(wanted.n_examples, seed, wanted.families)


def given_conversations(ctx: StageContext) -> list[Conversation]:
    """Those of the input `conversations`; none without it."""
    given = ctx.inputs.get("conversations")
    return [] if given is None else list(read_conversations(given.file("conversations.parquet")))


def pack_epochs(
    items: list[tuple[np.ndarray, np.ndarray]], epochs: float, row_length: int, seed: int, pad_id: int
) -> PackedBatch:
    """Rows of all epochs, each packed on its own in an order drawn from (seed, epoch); part of one is its start."""
    parts = []
    for epoch in range(math.ceil(epochs)):
        words = np.random.Philox(key=derive(seed, "conversations", epoch)).random_raw(len(items))
        order = np.argsort(words, kind="stable")[: math.ceil(len(items) * min(1.0, epochs - epoch))]
        parts.append(pack_conversations([items[i] for i in order], row_length, pad_id))
    return PackedBatch(
        np.concatenate([p.tokens_BT for p in parts]),
        np.concatenate([p.labels_BT for p in parts]),
        tuple(row for p in parts for row in p.lengths),
    )


def learning_rate(config: SftConfig, steps: int) -> Schedule:
    """Warm-up, plateau, linear decay over the last share of the steps."""
    peak = config.optimizer.lr
    warm = min(config.warmup_steps, steps)
    down = min(round(steps * config.decay_share), steps - warm)
    parts = [(warm, 0.0, peak), (steps - warm - down, peak, peak), (down, peak, peak * config.final_lr_share)]
    return Schedule([Segment(steps=n, lr_start=a, lr_end=b) for n, a, b in parts if n])
