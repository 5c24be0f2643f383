"""The pretrain stage: phases → mixture → trainer → base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from thinkling.data.artifact import write_json
from thinkling.data.mixture import MixtureLoader, MixturePhase, check_epochs, waste
from thinkling.data.packing import PackedBatch, SourceRows, pack_rows
from thinkling.data.seals import require, seal
from thinkling.data.shards import TokenSource, open_sources
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained
from thinkling.stages.base import StageContext
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.pretrain.phases import Phase, averaged, check_order, phase_of, resolve, schedule
from thinkling.stages.training.callbacks import Validation, count_and_means
from thinkling.stages.training.fitting import stage_memory
from thinkling.stages.training.objective import mean_loss, next_token_objective
from thinkling.stages.training.plan import TrainingPlan, kept_facts, train
from thinkling.stages.training.state import KeptState, read_kept
from thinkling.train.callback import Callback
from thinkling.train.parallel import setup
from thinkling.train.precision import DTYPES


def run(config: PretrainConfig, ctx: StageContext) -> None:
    """Trains through all phases and exports the base model.

    With an input `state`, training continues after the phases of the stage that stored the state. Weights, optimizer,
    learning rate and data order are the same as if a single stage contained the phases of both stages.

    Raises UserError, before any training, if mixture and learning rate change together, if a mixture contains an
    unknown source, if a source would be repeated beyond its limit, or if the state was trained on different tokens.
    """
    parallel = setup(config.parallel)
    tokens = ctx.inputs["tokens"]
    tokenizer_dir = tokens.file("tokenizer")
    tokenizer = Tokenizer.load(tokenizer_dir)
    sources = open_sources(tokens.file("shards"))
    start = kept_of(ctx)
    seed = start.facts["seed"] if start else ctx.seed
    before = [Phase(**phase) for phase in start.facts["phases"]] if start else []
    model = make_model(ctx, tokenizer.vocab_size, DTYPES[config.precision.weights])
    own = resolve(config, model.config.rope_theta, start.steps if start else 0)
    check_order([*before[-1:], *own])
    phases = before + own
    loader = MixtureLoader(
        [
            MixturePhase(p.rows, p.sequence_length, p.fractions, p.batch_size, best_fit=p.packing == "best_fit")
            for p in phases
        ],
        sources,
        seed,
        phases[0].batch_size,
        parallel.rank,
        parallel.world_size,
        config.micro_batch_size,
        tokenizer.pad_id,
    )
    check_epochs(loader.usage(), {name: config.max_epochs.get(name, config.default_max_epochs) for name in sources})
    length = own[-1].sequence_length
    validation = validation_batches(tokens.path / "validation", config.validation_rows, length, tokenizer.pad_id)
    ends = {phase.end - 1 for phase in own}
    plan = TrainingPlan(
        model=model,
        optimizer=config.optimizer,
        precision=config.precision,
        recompute=config.recompute,
        compile=config.compile,
        spikes=config.spikes,
        seed=seed,
        batches=loader.batches,
        learning_rate=schedule(phases),
        total_steps=loader.n_steps,
        tokens_per_step=lambda step: phase_of(phases, step).batch_tokens,
        tokenizer_dir=tokenizer_dir,
        checkpoint_every=config.checkpoint_every,
        async_checkpoints=config.async_checkpoints,
        objective=next_token_objective(parallel.device, config.z_loss),
        logged=lambda step, metrics: {
            **count_and_means(step, metrics),
            "phase": phase_of(phases, step).name,
            "rows": loader.rows_by_source(step),
        },
        callbacks=[
            RopeBase(model, phases),
            *([WriteValidation(ctx.directory / "validation", own)] if parallel.rank == 0 else []),
        ],
        validation=Validation(
            due=lambda step: step in ends,
            losses=lambda trained: {
                name: mean_loss(trained, batches, parallel.device, config.precision.compute)
                for name, batches in validation.items()
            },
        ),
        average=averaged(own, config.average.every) if config.average is not None else None,
        start=start,
        first_step=own[0].first_step,
        keep=kept_facts(config, seed=seed, phases=[phase.facts() for phase in phases], tokens=tokens.digest),
        memory=stage_memory(config, model.config, parallel.world_size, parallel.device.type == "cuda"),
        dry_run_step=config.dry_run_step,
    )
    train(plan, ctx, parallel)
    ctx.counts.update(
        steps=sum(p.steps for p in own),
        tokens=sum(p.tokens for p in own),
        parameters=model.config.parameter_count(),
        phase_ends=[p.end for p in own],
        # The usage includes the phases before the stored state, because epoch limits apply to all phases.
        sources={name: {**used, "waste": waste(used)} for name, used in loader.usage().items()},
    )


def kept_of(ctx: StageContext) -> KeptState | None:
    """Returns the state from which training continues, or None. Raises UserError if the state was trained on different
    tokens."""
    if "state" not in ctx.inputs:
        return None
    state = read_kept(ctx.inputs["state"])
    if state.facts["tokens"] != ctx.inputs["tokens"].digest:
        raise UserError(
            f"stages.{ctx.name}.inputs.tokens: {state.directory.parent.name} was trained on different tokens, so "
            "the data order cannot continue; use the same tokens"
        )
    return state


class RopeBase(Callback):
    """Updates the model's RoPE base at phase boundaries."""

    def __init__(self, model: Decoder, phases: Sequence[Phase]) -> None:
        self.model, self.phases = model, phases

    def before_step(self, step: int) -> None:
        theta = phase_of(self.phases, step).rope_theta
        if theta != self.model.config.rope_theta:
            self.model.set_rope_theta(theta)


class WriteValidation(Callback):
    """Writes the validation losses at the end of each phase. The file for the stage's first phase is `0.json`."""

    def __init__(self, directory: Path, phases: Sequence[Phase]) -> None:
        self.directory, self.phases = directory, phases

    def on_start(self, first_step: int) -> None:
        """Checks the files of completed phases. Raises UserError if the losses of a phase before the checkpoint are
        corrupt or missing."""
        self.directory.mkdir(exist_ok=True)
        for number, phase in enumerate(self.phases):
            if phase.end <= first_step:
                require(self._file(number), self.directory.parent)

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        phase = phase_of(self.phases, step)
        path = self._file(self.phases.index(phase))
        write_json(path, {"phase": phase.name, **losses})
        seal(path)

    def _file(self, number: int) -> Path:
        return self.directory / f"{number}.json"


def make_model(ctx: StageContext, vocab_size: int, dtype: torch.dtype) -> Decoder:
    """Returns the model to train. It is loaded from the given state or model, or initialised with the stage's seed in
    the shape that the recipe defines. The weights are converted to the training `dtype`."""
    for role in ("state", "model"):
        if role in ctx.inputs:
            return load_pretrained(ctx.inputs[role].model_dir, dtype)
    assert ctx.model is not None
    shape = ctx.model if ctx.model.vocab_size else ctx.model.model_copy(update={"vocab_size": vocab_size})
    model = Decoder(shape)
    model.init_weights(torch.Generator().manual_seed(ctx.seed))
    return model.to(dtype)


def validation_batches(directory: Path, n_rows: int, sequence_length: int, pad_id: int) -> dict[str, list[PackedBatch]]:
    """Returns up to `n_rows` rows per source of the validation documents. Each document is used at most once."""
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
