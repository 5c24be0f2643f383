"""The rl stage: problems → pass-rate band → rollouts with the current weights → one GRPO update → … → model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from thinkling.data.seals import drop_damaged
from thinkling.errors import UserError
from thinkling.generate import pairwise_forms
from thinkling.generate.client import ServedModel, report_spending
from thinkling.generate.engine import Engine, Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.pairwise import Pairwise, PairwiseModel
from thinkling.generate.score import Sampler
from thinkling.generate.served_judge import ServedJudge
from thinkling.generate.unreadable import say
from thinkling.model.lora import add_adapters
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.rl import band
from thinkling.stages.rl.collect import Collector, Rollouts
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.rl.grpo import LossBatch, loss_batches, objective_of
from thinkling.stages.rl.prompts import PromptPool, Prompts
from thinkling.stages.rl.rewards import reward_of
from thinkling.stages.training.callbacks import METRICS
from thinkling.stages.training.evaluation import evaluation_of
from thinkling.stages.training.fitting import stage_memory
from thinkling.stages.training.left_out import LeftOut
from thinkling.stages.training.plan import TrainingPlan, kept_facts, train
from thinkling.stages.training.state import read_kept
from thinkling.tasks.problem import Problem
from thinkling.train.callback import Callback, SavedCheckpoint, StepMetrics
from thinkling.train.parallel import Parallel
from thinkling.train.precision import DTYPES


def run(config: RlConfig, ctx: StageContext) -> None:
    """Trains on problems inside the band and exports the model.

    Raises UserError if fewer than `min_prompts` problems of a source are inside the band.
    """
    start = ctx.inputs["model"].model_dir
    loaded = LoadedModel.load(start, dtype=DTYPES[config.precision.weights], trainable=True, chat=config.chat)
    if config.lora is not None:
        add_adapters(loaded.decoder, config.lora, derive(ctx.seed, "lora"))
    device = loaded.device
    # Sample in the training dtype. If only one of sampling and training used fp32, their mismatch would not be smaller.
    engine = make_engine(loaded, config.max_concurrent, DTYPES[config.precision.compute])
    sampling = Sampling(config.temperature, config.top_p)
    sampler = Sampler(engine, loaded.renderer, sampling, config.max_new_tokens, config.max_tool_calls)
    preference_model = _preference_model(config, ctx, device)
    parallel = Parallel(device=device)
    left_out = LeftOut.of(config, ctx, parallel)
    pools = make_pools(config, ctx, sampler, preference_model, left_out)
    prompts = Prompts(pools, config.prompts_per_step, config.steps, ctx.seed)
    warn_of_small_pools(prompts, ctx, config.steps)
    collector = Collector(ctx.name, sampler, prompts, config, ctx.seed, ctx.directory / "rollouts", ctx.progress.warn)
    loop = RlLoop(config, engine, collector, device)
    plan = TrainingPlan(
        model=loaded.decoder,
        optimizer=config.optimizer,
        precision=config.precision,
        recompute=config.recompute,
        compile=config.compile,
        spikes=config.spikes,
        seed=ctx.seed,
        batches=loop.batches,
        learning_rate=config.schedule(config.steps, config.updates_per_batch),
        total_steps=config.steps * config.updates_per_batch,
        tokens_per_step=lambda step: 1,
        tokenizer_dir=start,
        renderer=loaded.renderer,
        checkpoint_every=config.checkpoint_every * config.updates_per_batch,
        async_checkpoints=config.async_checkpoints,
        objective=loop.objective,
        logged=loop.logged,
        callbacks=[loop],
        evaluation=evaluation_of(config, ctx, loaded, left_out, parallel, updates_per_step=config.updates_per_batch),
        start=read_kept(ctx.inputs["state"]) if "state" in ctx.inputs else None,
        keep=kept_facts(config),
        prefetch=0,
        unit="updates",
        memory=stage_memory(config, loaded.decoder.config, parallel.world_size, parallel.device.type == "cuda"),
    )
    train(plan, ctx, parallel)
    collector.prune(config.steps)
    ctx.counts["training"] = _totals(ctx)
    if isinstance(preference_model, ServedJudge):
        _report_judge(preference_model, ctx)


def _report_judge(judge: ServedJudge, ctx: StageContext) -> None:
    """Reports the judge's replies in this process. If the stage was resumed, replies before its last checkpoint are not
    counted."""
    counts = judge.readings.counts()
    judge.readings.write(ctx.directory)
    say(counts, f"stages.{ctx.name}", ctx.progress)
    ctx.counts["replies"] = counts
    if isinstance(judge.model, ServedModel):
        ctx.counts["served"] = report_spending({"judge": judge.model.spending}, ctx.name, ctx.progress)


def _preference_model(config: RlConfig, ctx: StageContext, device: torch.device) -> Pairwise | None:
    form = pairwise_forms.resolve(config.preference_form)
    if config.judge is not None:
        model = ServedModel(config.judge, f"stages.{ctx.name}.judge", ctx.answers, ctx.progress)
        return ServedJudge(model, form, config.judge.max_new_tokens)
    if "preference_model" not in ctx.inputs:
        return None
    return PairwiseModel.of(LoadedModel.load(ctx.inputs["preference_model"].model_dir, device), form)


def make_pools(
    config: RlConfig,
    ctx: StageContext,
    sampler: Sampler,
    preference_model: Pairwise | None = None,
    left_out: LeftOut | None = None,
) -> list[PromptPool]:
    """Returns the problems that the band keeps, by source. Pass rates are measured unless band.parquet already exists.

    Raises UserError if a source has too few problems (before any problem is sampled), or if the band keeps too few.
    """
    problems = make_problems(config, ctx, left_out or LeftOut())
    path, chunks = ctx.directory / band.BAND, ctx.directory / "band"
    for kept in (path, chunks):
        drop_damaged(kept, ctx.progress.warn, "measuring it again")
    if path.exists():
        shutil.rmtree(chunks, ignore_errors=True)  # left by a run that was killed while deleting them
    else:
        rows: list[band.PassRate] = []
        compared_by = {p.source: preference_model if p.compares else None for p in config.problems}
        total = sum(
            len(asked) * (config.band.samples + (compared_by[name] is not None)) for name, asked in problems.items()
        )
        with ctx.progress.track(f"{ctx.name}: pass rates", total, "samples") as task:
            for name, asked in problems.items():
                rows += band.measure(
                    name, asked, replace(sampler, task=task), config.band,
                    derive(ctx.seed, "band", name), chunks / name, compared_by[name],
                )  # fmt: skip
        band.write(path, rows, chunks)
    rows = band.read(path)
    pools = []
    for p in config.problems:
        mine = [row for row in rows if row.source == p.source]
        band.check(ctx.name, p.source, mine, config.band)
        kept = {row.problem_id: row.reference or "" for row in mine if row.kept}
        chosen = [problem for problem in problems[p.source] if problem.id in kept]
        ctx.counts[p.source] = _band_counts(mine)
        if chosen:
            pools.append(PromptPool(p.source, chosen, p.weight, reward_of(p, preference_model, kept)))
        else:
            ctx.progress.warn(
                f"stages.{ctx.name}.band: no problem of {p.source!r} has a pass rate inside the band, so the other "
                "sources take its share"
            )
    if not pools:
        raise UserError(
            f"stages.{ctx.name}.band: no problem of any source has a pass rate strictly between {config.band.low} and "
            f"{config.band.high}; raise n_problems, or use problems closer to the model's ability"
        )
    return pools


class RlLoop(Callback):
    """Collects one rollout batch, then makes `updates_per_batch` updates from it. Each update is a step of the
    trainer."""

    def __init__(self, config: RlConfig, engine: Engine, collector: Collector, device: torch.device) -> None:
        self.config, self.engine, self.collector = config, engine, collector
        self.objective = objective_of(config, device)
        self._rollouts = Rollouts()
        self._resumable = 0
        """The step from which a run that is killed now would resume. Rollouts from this step on are still needed."""

    def on_start(self, first_step: int) -> None:
        """Checks the rollouts of a killed run. Corrupt rollouts are sampled again if the weights that produced them are
        still available."""
        self._resumable = first_step // self.config.updates_per_batch
        self.collector.resume(self._resumable)

    def before_step(self, step: int) -> None:
        """Samples with the current weights before the first update of a batch."""
        number, part = divmod(step, self.config.updates_per_batch)
        self.objective.reset()
        if part:
            return
        self.collector.prune(self._resumable)
        self.engine.update_weights(version=number)
        self._rollouts = self.collector.collect(number)
        self.engine.release()

    def on_checkpoint_saved(self, saved: SavedCheckpoint) -> None:
        self._resumable = saved.steps // self.config.updates_per_batch

    def batches(self, update: int) -> list[LossBatch] | None:
        """Returns the micro-batches of an update, or None if none of its samples carries loss; the step then has no
        update. With n updates per batch, each update uses every n-th group."""
        n = self.config.updates_per_batch
        mine = [sample for group in self._rollouts.groups[update % n :: n] for sample in group]
        found = loss_batches(mine, self.config.normalisation, self.config.max_new_tokens, self.config.micro_tokens)
        return found or None

    def logged(self, update: int, metrics: StepMetrics) -> dict[str, Any]:
        """Returns the objective's sums as means per loss token (0 if there is no update), and the statistics of the
        rollouts."""
        tokens = metrics.metrics.get("tokens", 0.0)
        return {
            "loss_tokens": int(tokens),
            "mismatch_kl": metrics.metrics["kl"] / tokens if tokens else 0.0,
            "clipped_fraction": metrics.metrics["clipped"] / tokens if tokens else 0.0,
            "version": update // self.config.updates_per_batch,
            "mismatch_max": self.objective.max_mismatch,
            **self._rollouts.statistics(),
        }


def make_problems(config: RlConfig, ctx: StageContext, left_out: LeftOut) -> dict[str, list[Problem]]:
    """Returns the problems of each source that are not used for evaluation. Raises UserError if there are too few of
    them for the band or for a step."""
    found: dict[str, list[Problem]] = {}
    for p in config.problems:
        seed = derive(ctx.seed, "problems", p.source)
        asked = ctx.sources[p.source].problems("train", p.n_problems, seed, p.families)
        found[p.source] = left_out.without(asked)
        if left_out.ids:
            ctx.counts.setdefault("left_out_problems", {})[p.source] = len(asked) - len(found[p.source])
        if len(found[p.source]) < config.band.min_prompts:
            evaluated = f" that are not among the {len(left_out.ids)} evaluated ones" if left_out.ids else ""
            raise UserError(
                f"stages.{ctx.name}.band.min_prompts {config.band.min_prompts}: source {p.source!r} has only "
                f"{len(found[p.source])} problems{evaluated}, fewer than the band must keep; lower min_prompts, or "
                "use more problems"
            )
    total = sum(map(len, found.values()))
    if total < config.prompts_per_step:
        raise UserError(
            f"stages.{ctx.name}.prompts_per_step {config.prompts_per_step}: only {total} problems in "
            f"{', '.join(found)}, and a step uses a problem at most once; lower prompts_per_step, or use more problems"
        )
    return found


def warn_of_small_pools(prompts: Prompts, ctx: StageContext, steps: int) -> None:
    """Warns if the band kept fewer problems of a source than a step needs, because the stage's steps will then have
    fewer groups than requested."""
    for number, pool in enumerate(prompts.pools):
        asked = max(prompts.wanted(step)[number] for step in range(steps))
        if asked > len(pool.problems):
            ctx.progress.warn(
                f"stages.{ctx.name}.prompts_per_step: a step needs up to {asked} problems of {pool.name!r}, but the "
                f"band kept {len(pool.problems)}, so steps will be smaller; lower it, or raise n_problems"
            )


def _band_counts(rows: Sequence[band.PassRate]) -> dict[str, Any]:
    """Returns the counts of a source, in which `problems` equals the sum of `kept`, `too_hard`, `too_easy` and
    `undecided`."""
    undecided = [row for row in rows if row.undecided]
    out = [row for row in rows if not row.kept and not row.undecided]
    return {
        "problems": len(rows),
        "kept": sum(row.kept for row in rows),
        "too_hard": sum(row.passes * 2 < row.samples for row in out),
        "too_easy": sum(row.passes * 2 >= row.samples for row in out),
        "undecided": len(undecided),
        "kept_by_family": {
            f: sum(r.kept for r in rows if r.family == f) for f in dict.fromkeys(r.family for r in rows)
        },
        "histogram": {str(passes): n for passes, n in band.histogram(rows).items()},
    }


def _totals(ctx: StageContext) -> dict[str, Any]:
    """Returns sums over all steps. They are read from metrics.jsonl, because a run that is killed after training still
    has this file."""
    lines = [json.loads(line) for line in (ctx.directory / METRICS).read_text(encoding="utf-8").splitlines()]
    steps = {line["version"]: line for line in lines}.values()
    summed = ("samples", "undecided", "groups", "groups_equal", "groups_too_small", "groups_refilled", "groups_missing")
    return {
        "steps": len(steps),
        "updates": len(lines),
        "updates_without_group": sum(line["lr"] == 0.0 for line in lines),
        **{name: sum(line[name] for line in steps) for name in summed},
        "mismatch_max": max(line["mismatch_max"] for line in lines),
    }
