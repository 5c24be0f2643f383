"""The sft stage: problems → conversations → packed rows → trainer → thinking model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from thinkling.data.conversations import Conversation, read_conversations, write_conversations
from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.errors import UserError
from thinkling.generate.loaded import LoadedModel
from thinkling.seeds import derive, permutation
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.plan import TrainingPlan, kept_facts, train
from thinkling.stages.training.state import read_kept
from thinkling.train.parallel import setup


def run(config: SftConfig, ctx: StageContext) -> None:
    """Trains on worked problems in chat form and exports the model.

    Raises UserError if no conversation fits a row, or fewer rows come together than one step needs.
    """
    parallel = setup()
    start = ctx.inputs["model"].model_dir
    loaded = LoadedModel.load(start, parallel.device, trainable=True, chat=config.chat)
    made, read = list(make_conversations(config, ctx)), given_conversations(ctx)
    conversations = made + read
    if parallel.rank == 0:
        write_conversations(ctx.directory / "conversations.parquet", conversations)
    rendered = [loaded.renderer.encode(c.messages) for c in conversations]
    fitting = [item for item in rendered if len(item[0]) <= config.sequence_length]
    if not fitting:
        raise UserError(
            f"sequence_length {config.sequence_length}: every conversation is longer; the shortest has "
            f"{min(len(ids) for ids, _ in rendered)} tokens"
        )
    rows = pack_epochs(fitting, config.epochs, config.sequence_length, ctx.seed, loaded.tokenizer.pad_id)
    steps = min(len(rows.lengths) // config.batch_size, config.max_steps or len(rows.lengths))
    if not steps:
        raise UserError(
            f"batch_size {config.batch_size}: there are only {len(rows.lengths)} rows; lower it, or take more examples"
        )
    if config.batch_size % parallel.world_size:
        raise UserError(f"batch_size {config.batch_size} cannot be dealt evenly to {parallel.world_size} ranks")
    mine = config.batch_size // parallel.world_size
    micro = config.micro_batch_size or mine

    def batches(step: int) -> list[PackedBatch]:
        first = step * config.batch_size + parallel.rank * mine
        return [rows.rows(i, min(i + micro, first + mine)) for i in range(first, first + mine, micro)]

    plan = TrainingPlan(
        model=loaded.decoder,
        optimizer=config.optimizer,
        batches=batches,
        learning_rate=config.schedule(steps),
        total_steps=steps,
        tokens_per_step=lambda step: config.batch_size * config.sequence_length,
        tokenizer_dir=start,
        renderer=loaded.renderer,
        checkpoint_every=config.checkpoint_every,
        start=read_kept(ctx.inputs["state"]) if "state" in ctx.inputs else None,
        keep=kept_facts(config),
    )
    train(plan, ctx, parallel)
    ctx.counts.update(
        conversations=len(conversations),
        from_examples=len(made),
        from_conversations=len(read),
        kept=len(fitting),
        too_long=len(rendered) - len(fitting),
        rows=steps * config.batch_size,
        rows_left_over=len(rows.lengths) - steps * config.batch_size,
        steps=steps,
        tokens=sum(map(sum, rows.lengths[: steps * config.batch_size])),
        loss_tokens=rows.rows(0, steps * config.batch_size).n_loss_tokens,
    )


def make_conversations(config: SftConfig, ctx: StageContext) -> Iterator[Conversation]:
    """What the sources offer, in the order of the recipe."""
    for number, wanted in enumerate(config.examples):
        seed = derive(ctx.seed, "examples", number) if number else ctx.seed
        yield from ctx.sources[wanted.source].conversations(wanted.n_examples, seed, wanted.families)


def given_conversations(ctx: StageContext) -> list[Conversation]:
    """Those of the input `conversations`; none without it."""
    given = ctx.inputs.get("conversations")
    return [] if given is None else list(read_conversations(given.file("conversations.parquet")))


def pack_epochs(
    items: list[tuple[np.ndarray, np.ndarray]], epochs: float, sequence_length: int, seed: int, pad_id: int
) -> PackedBatch:
    """Rows of all epochs, each packed on its own in an order drawn from (seed, epoch); part of one is its start."""
    parts = []
    for epoch in range(math.ceil(epochs)):
        shuffled = permutation(len(items), derive(seed, "conversations", epoch))
        order = shuffled[: math.ceil(len(items) * min(1.0, epochs - epoch))]
        parts.append(pack_conversations([items[i] for i in order], sequence_length, pad_id))
    return PackedBatch(
        np.concatenate([p.tokens_BT for p in parts]),
        np.concatenate([p.labels_BT for p in parts]),
        tuple(row for p in parts for row in p.lengths),
    )
