"""The rl stage: problems → pass-rate band → rollouts with the present weights → one GRPO update → … → model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from thinkling.data.chat_template import ChatTemplate, load_chat_template
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.pairwise import PairwiseModel
from thinkling.model.huggingface import load_pretrained
from thinkling.puzzles.problemset import generate
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.rl import band
from thinkling.stages.rl.collect import Collector, Rollouts
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.rl.grpo import NOTHING, LossBatch, loss_batches, objective_of
from thinkling.stages.rl.prompts import Pool, Prompts
from thinkling.stages.rl.rewards import reward_of
from thinkling.stages.sources import TasksSource
from thinkling.stages.training import METRICS, train_to_directory
from thinkling.tasks.problem import Problem
from thinkling.train.parallel import Parallel
from thinkling.train.schedule import Schedule, Segment
from thinkling.train.trainer import StepMetrics


def run(config: RlConfig, ctx: StageContext) -> None:
    """Trains on problems inside the band and exports the model.

    Raises UserError if a source is not of type tasks, or its band holds fewer than `min_prompts` problems.
    """
    torch.set_num_threads(ctx.threads)
    start = ctx.inputs["model"].model_dir
    tokenizer, template = Tokenizer.load(start), load_chat_template(start)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_pretrained(start).to(device)
    engine = NativeEngine(model, config.batch_size)
    judge = PairwiseModel.load(ctx.inputs["judge"].model_dir, device) if "judge" in ctx.inputs else None
    pools = make_pools(config, ctx, engine, tokenizer, template, judge)
    prompts = Prompts(pools, config.groups, config.steps, ctx.seed)
    collector = Collector(engine, prompts, tokenizer, template, config, ctx.seed, ctx.directory / "rollouts")
    loop = Loop(config, engine, collector, device)
    train_to_directory(
        ctx,
        model,
        config.optimizer,
        loop.batches,
        loop.learning_rate,
        config.steps * config.updates_per_batch,
        config.checkpoint_every * config.updates_per_batch,
        Parallel(device=device),
        tokens_per_step=lambda step: 1,
        tokenizer_dir=start,
        label=ctx.name,
        before_step=loop.before_update,
        fields=loop.fields,
        objective=loop.objective,
        logged=loop.logged,
        ahead=0,
        unit="updates",
    )
    collector.prune(config.steps)
    ctx.counts["training"] = _totals(ctx)


def make_pools(
    config: RlConfig,
    ctx: StageContext,
    engine: NativeEngine,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    judge: PairwiseModel | None = None,
) -> list[Pool]:
    """The problems that the band keeps, by source. Measures pass rates unless band.parquet is there already."""
    problems = {p.source: _problems(ctx, p.source, p.problems_per_family) for p in config.problems}
    path, chunks = ctx.directory / band.BAND, ctx.directory / "band"
    if not path.exists():
        sampling = Sampling(config.temperature, config.top_p)
        rows: list[band.PassRate] = []
        judges = {p.source: judge if p.reward == "preference" else None for p in config.problems}
        total = sum(len(asked) * (config.band.samples + (judges[name] is not None)) for name, asked in problems.items())
        with ctx.progress.track(f"{ctx.name}: pass rates", total, "samples") as task:
            for name, asked in problems.items():
                rows += band.measure(
                    name, asked, engine, tokenizer, template, sampling, config.max_new_tokens, config.band,
                    derive(ctx.seed, "band", name), chunks / name, judges[name], task.advance,
                )  # fmt: skip
        band.write(path, rows, chunks)
    rows = band.read(path)
    pools = []
    for p in config.problems:
        mine = [row for row in rows if row.source == p.source]
        band.check(ctx.name, p.source, mine, config.band)
        kept = {row.problem_id: row.reference or "" for row in mine if row.kept}
        chosen = [problem for problem in problems[p.source] if problem.id in kept]
        pools.append(Pool(p.source, chosen, p.share, reward_of(p, judge, kept)))
        ctx.counts[p.source] = _band_counts(mine)
    return pools


class Loop:
    """One rollout batch, then `updates_per_batch` updates from it. An update is a step of the trainer."""

    def __init__(self, config: RlConfig, engine: NativeEngine, collector: Collector, device: torch.device) -> None:
        self.config, self.engine, self.collector = config, engine, collector
        self.objective = objective_of(config, device)
        self._schedule = schedule(config)
        self._rollouts = Rollouts()
        self._nothing = False

    def before_update(self, update: int) -> None:
        """Samples with the present weights before the first update of a batch."""
        step, part = divmod(update, self.config.updates_per_batch)
        self.objective.reset()
        if part:
            return
        self.collector.prune(step // self.config.checkpoint_every * self.config.checkpoint_every)
        self.engine.update_weights(version=step)
        self._rollouts = self.collector.collect(step)
        self.engine.release()

    def batches(self, update: int) -> list[LossBatch]:
        """Micro-batches of an update: every n-th group's."""
        n = self.config.updates_per_batch
        mine = [sample for group in self._rollouts.groups[update % n :: n] for sample in group]
        found = loss_batches(mine, self.config.normalisation, self.config.max_new_tokens, self.config.micro_tokens)
        self._nothing = not found
        return found or [NOTHING]

    def learning_rate(self, update: int) -> float:
        """The schedule's; 0 where no group teaches anything, so that momentum alone moves no weight. Asked after
        `batches`, as `fit` does."""
        return 0.0 if self._nothing else self._schedule(update)

    def fields(self, update: int) -> dict[str, Any]:
        """What the log says of an update beside the loss."""
        step = update // self.config.updates_per_batch
        mismatch = 0.0 if self._nothing else self.objective.max_mismatch
        return {"version": step, "mismatch_max": mismatch, **self._rollouts.statistics()}

    def logged(self, metrics: StepMetrics) -> dict[str, Any]:
        """Sums of the objective as means over its loss tokens; zeros where no group teaches anything."""
        if self._nothing:
            return {"loss_tokens": 0, "mismatch_kl": 0.0, "clipped_share": 0.0}
        tokens = metrics.metrics["tokens"]
        return {
            "loss_tokens": int(tokens),
            "mismatch_kl": metrics.metrics["kl"] / tokens,
            "clipped_share": metrics.metrics["clipped"] / tokens,
        }


def schedule(config: RlConfig) -> Schedule:
    """Learning rate of each update: warm-up, plateau, linear decay over the last share."""
    n, updates = config.updates_per_batch, config.steps * config.updates_per_batch
    peak = config.optimizer.lr
    warm = min(config.warmup_steps * n, updates)
    down = min(round(updates * config.decay_fraction), updates - warm)
    parts = [(warm, 0.0, peak), (updates - warm - down, peak, peak), (down, peak, peak * config.final_lr_fraction)]
    return Schedule([Segment(steps=k, lr_start=a, lr_end=b) for k, a, b in parts if k])


def _problems(ctx: StageContext, name: str, per_family: int) -> list[Problem]:
    source = ctx.sources[name]
    if not isinstance(source, TasksSource):
        raise UserError(f"stages.{ctx.name}.problems: source {name!r} is of type {source.type}, not tasks")
    return generate(source.families, "train", per_family, derive(ctx.seed, "problems", name))


def _band_counts(rows: Sequence[band.PassRate]) -> dict[str, Any]:
    """in = kept + rejected by reason."""
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
    """Sums over the log, which a run that was killed after training still has."""
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
