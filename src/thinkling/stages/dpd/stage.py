"""The dpd stage: samples of student and teacher, and existing preferences → pairs → three-term loss → a better
student."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tokenizers
import torch

from thinkling.data.seals import drop_damaged
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.first_look import refuse_unreadable
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Sampler, sample_and_score
from thinkling.model.decoder import Decoder
from thinkling.model.lora import add_adapters
from thinkling.progress import Task
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.dpd.batches import PairBatch, PairOrder, pack_pairs
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.given import given_pairs
from thinkling.stages.dpd.losses import dpd_objective, sequence_log_probs
from thinkling.stages.dpd.pairs import (
    FILE,
    Pair,
    by_problem,
    fraction_right,
    make_pairs,
    read_pairs,
    rejection,
    solved_by,
    write_pairs,
)
from thinkling.stages.training.evaluation import evaluation_of
from thinkling.stages.training.fitting import stage_memory
from thinkling.stages.training.left_out import LeftOut
from thinkling.stages.training.plan import TrainingPlan, kept_facts, train
from thinkling.stages.training.state import read_kept
from thinkling.tasks.problem import Problem
from thinkling.train.callback import StepMetrics
from thinkling.train.float8 import use_float8
from thinkling.train.parallel import Parallel, setup
from thinkling.train.precision import DTYPES, computing
from thinkling.verify.verdict import Outcome

CHUNK = 128
"""Number of problems that are sampled together and stored in one file."""


@dataclass(frozen=True)
class Models:
    """The initial checkpoint and the teacher, both frozen and loaded on the device."""

    loaded_student: LoadedModel
    """The student. Its renderer also prompts the teacher, because the student imitates the teacher token by token, so
    both models must read the same tokens."""
    loaded_teacher: LoadedModel | None

    @property
    def student(self) -> Decoder:
        return self.loaded_student.decoder

    @property
    def teacher(self) -> Decoder | None:
        return self.loaded_teacher.decoder if self.loaded_teacher else None

    @property
    def student_dir(self) -> Path:
        return self.loaded_student.directory

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded_student.tokenizer


def run(config: DpdConfig, ctx: StageContext) -> None:
    """Makes pairs, adds existing pairs, trains on all of them and exports the model. A resumed run continues after the
    last completed chunk or checkpoint.

    Raises UserError if the tokenizers of student and teacher differ, if a verifier failed, or if there are fewer pairs
    than one step needs.
    """
    parallel = setup(config.parallel)
    for name in ("batch_size", "solved_per_step"):
        if getattr(config, name) % parallel.world_size:
            raise UserError(
                f"{name} {getattr(config, name)} is not divisible by the number of processes, {parallel.world_size}; "
                "change one of them"
            )
    if parallel.rank == 0:
        drop_damaged(ctx.directory / "samples", ctx.progress.warn, "sampling it again")
        drop_damaged(ctx.directory / FILE, ctx.progress.warn, "making it again")
    parallel.barrier()
    left_out = LeftOut.of(config, ctx, parallel)
    models = load_models(config, ctx, parallel)
    given, given_counts = given_pairs(config, ctx, models.loaded_student.renderer, left_out)
    samples = sample_pairs(config, ctx, parallel, models, left_out)
    pairs = samples.pairs + given
    if len(pairs) < config.batch_size:
        counted = samples.counts | {f"preferences.{source}": n["kept"] for source, n in given_counts.items()}
        reasons = ", ".join(f"{name} {n}" for name, n in counted.items())
        raise UserError(
            f"batch_size {config.batch_size}: only {len(pairs)} pairs are available ({reasons}); lower batch_size, or "
            f"use more {'problems (n_problems)' if config.problems else 'preferences'}"
        )
    if config.weights.dpo:
        pairs = with_references(config, ctx, pairs, models, parallel)
    if parallel.rank == 0:
        write_pairs(ctx.directory / FILE, pairs)
    solved = solved_by(samples.student, config.sequence_length)
    if config.holds and not solved:
        ctx.progress.warn(
            f"stages.{ctx.name}.solved_per_step: no problem was answered correctly in all of the student's "
            "samples, so the loss has no term for solved problems; training only on pairs"
        )
        config = config.model_copy(update={"solved_per_step": 0})
    if given:
        ctx.counts["preferences"] = given_counts
    train_student(config, ctx, pairs, solved, models, parallel, left_out)
    ctx.counts.update(
        samples.counts,
        pairs=len(pairs),
        solved=len(solved),
        pairs_by_family=dict(Counter(pair.family for pair in pairs)),
        student=_summary(samples.student),
        teacher=_summary(samples.teacher),
        steps=config.steps,
        pairs_seen=config.steps * config.batch_size,
    )


@dataclass(frozen=True)
class SampledPairs:
    """Pairs made from samples, and the samples from which they were made."""

    pairs: list[Pair]
    counts: dict[str, int]
    student: dict[str, list[Rollout]]
    """Id of each problem → its samples."""
    teacher: dict[str, list[Rollout]]


def sample_pairs(
    config: DpdConfig, ctx: StageContext, parallel: Parallel, models: Models, left_out: LeftOut
) -> SampledPairs:
    """Samples student and teacher on the problems that are not used for evaluation, and makes pairs from the
    samples."""
    if config.pairs is None:
        return SampledPairs([], {}, {}, {})
    wanted = problems(config, ctx)
    asked = left_out.without(wanted)
    student = by_problem(sample(config, ctx, parallel, "student", asked, models))
    failed = [p for p in asked if rejection("student", student[p.id], Outcome.WRONG, config.sequence_length) is None]
    teacher = by_problem(sample(config, ctx, parallel, "teacher", failed, models))
    pairs, counts = make_pairs(student, teacher, config.pairs, config.sequence_length)
    if left_out.ids:
        counts = {**counts, "problems": len(wanted), "evaluated": len(wanted) - len(asked)}
    return SampledPairs(pairs, counts, student, teacher)


def load_models(config: DpdConfig, ctx: StageContext, parallel: Parallel) -> Models:
    """Loads the student in its training dtype and the teacher, if there is one, in the dtype of its weights. Both are
    loaded with the settings in `chat`.

    Raises UserError if their vocabularies differ.
    """
    chat, dtype = config.chat, DTYPES[config.precision.weights]
    student = LoadedModel.load(ctx.inputs["model"].model_dir, parallel.device, dtype, chat=chat)
    if config.lora is not None:  # new adapters do not change the student, so it remains its own reference
        add_adapters(student.decoder, config.lora, derive(ctx.seed, "lora"))
    if "teacher" not in ctx.inputs:
        return Models(student, None)
    directories = [ctx.inputs[role].model_dir for role in ("model", "teacher")]
    vocabularies = [
        tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json")).get_vocab(with_added_tokens=True)
        for directory in directories
    ]
    if vocabularies[0] != vocabularies[1]:
        sizes = " and ".join(str(len(v)) for v in vocabularies)
        raise UserError(
            f"stages.{ctx.name}.inputs.teacher: its tokenizer differs from the student's ({sizes} tokens); "
            "distillation compares single tokens, so choose a teacher with the same tokenizer"
        )
    return Models(student, LoadedModel.load(directories[1], parallel.device, chat=chat))


def problems(config: DpdConfig, ctx: StageContext) -> list[Problem]:
    """Returns the training problems, ordered by source and then by family."""
    return [
        problem
        for p in config.problems
        for problem in ctx.sources[p.source].problems("train", p.n_problems, ctx.seed, p.families)
    ]


def sample(
    config: DpdConfig,
    ctx: StageContext,
    parallel: Parallel,
    role: Literal["student", "teacher"],
    wanted: Sequence[Problem],
    models: Models,
) -> list[Rollout]:
    """Returns judged samples of all `wanted` problems, which are stored in `samples/<role>/`. Missing chunks are
    divided among the ranks."""
    pairs, loaded = config.pairs, models.loaded_student if role == "student" else models.loaded_teacher
    assert pairs is not None
    assert loaded is not None
    k = pairs.student_samples if role == "student" else pairs.teacher_samples
    engine = make_engine(loaded, pairs.max_concurrent)
    sampling = Sampling(pairs.temperature, pairs.top_p)
    sampler = Sampler(engine, models.loaded_student.renderer, sampling, pairs.max_new_tokens, pairs.max_tool_calls)
    chunks = [(number, wanted[start : start + CHUNK]) for number, start in enumerate(range(0, len(wanted), CHUNK))]
    store = ctx.directory / "samples" / role
    store.mkdir(parents=True, exist_ok=True)

    def scored(number: int, chunk: Sequence[Problem], task: Task | None = None) -> list[Rollout]:
        reporting = replace(sampler, task=task)
        return sample_and_score(
            reporting, chunk, k, derive(ctx.seed, role), chunk=CHUNK, store=store, first_chunk=number
        )

    mine = chunks[parallel.rank :: parallel.world_size]
    total = sum(len(chunk) for _, chunk in mine) * k
    found: dict[int, list[Rollout]] = {}
    with ctx.progress.track(f"{ctx.name}: {role}", total, "samples") as task:
        for number, chunk in mine:
            samples = found[number] = scored(number, chunk, task)
            if number == mine[0][0]:
                first_look = [(r.reading, r.truncated) for r in samples]
                refuse_unreadable(first_look, pairs.max_new_tokens, f"stages.{ctx.name}.pairs: {role}")
    parallel.barrier()
    return [r for number, chunk in chunks for r in (found[number] if number in found else scored(number, chunk))]


def with_references(
    config: DpdConfig, ctx: StageContext, pairs: list[Pair], models: Models, parallel: Parallel
) -> list[Pair]:
    """Adds the log-probabilities of the initial checkpoint to the pairs: two floats per pair, computed once.

    If an earlier attempt of this run computed all of the log-probabilities, they are read from pairs.parquet instead.
    """
    path = ctx.directory / FILE
    found = read_pairs(path) if path.exists() else []
    parallel.barrier()
    if len(found) == len(pairs):
        return found
    size = config.micro_batch_size or config.batch_size
    log_probs_S = torch.zeros(2 * len(pairs), dtype=torch.float64, device=parallel.device)
    # Compute the reference as training does, so that the student equals its reference at the first step.
    if config.precision.float8 is not None:
        use_float8(models.student, config.precision.float8)
    with (
        torch.no_grad(),
        computing(models.student, DTYPES[config.precision.compute]),
        ctx.progress.track(f"{ctx.name}: reference log-probabilities", len(pairs), "pairs") as task,
    ):
        for first in range(parallel.rank * size, len(pairs), parallel.world_size * size):
            batch = pack_pairs(pairs[first : first + size], config.sequence_length, models.tokenizer.pad_id)
            found_S = sequence_log_probs(models.student, batch, parallel.device)
            log_probs_S[2 * first : 2 * first + len(found_S)] = found_S.double()
            task.advance(min(parallel.world_size * size, len(pairs) - first))
    log_probs = parallel.all_reduce_sum(log_probs_S).tolist()
    return [pair.with_references(*log_probs[2 * i : 2 * i + 2]) for i, pair in enumerate(pairs)]


def train_student(
    config: DpdConfig,
    ctx: StageContext,
    pairs: list[Pair],
    solved: list[Rollout],
    models: Models,
    parallel: Parallel,
    left_out: LeftOut,
) -> None:
    """Trains the student on the pairs and solved problems of each step."""
    weights = config.weights
    needed = [weights.dpo or weights.kl_chosen, weights.dpo or weights.kl_rejected]
    sides = [side for side in (0, 1) if needed[side]]
    order = PairOrder(len(pairs), config.batch_size, ctx.seed)
    n_solved = config.solved_per_step if config.holds else 0
    solved_order = PairOrder(len(solved), n_solved, derive(ctx.seed, "solved"))
    mine = config.batch_size // parallel.world_size
    micro = config.micro_batch_size or mine
    passes = -(-mine // micro)

    def of_rank(chosen: list[int]) -> list[int]:
        size = len(chosen) // parallel.world_size
        return chosen[parallel.rank * size : (parallel.rank + 1) * size]

    def batches(step: int) -> list[PairBatch]:
        chosen = [pairs[i] for i in of_rank(order.step(step))]
        held = [solved[i] for i in of_rank(solved_order.step(step))]
        cuts = [len(held) * i // passes for i in range(passes + 1)]
        return [
            pack_pairs(
                chosen[i * micro : (i + 1) * micro],
                config.sequence_length,
                models.tokenizer.pad_id,
                sides,
                held[cuts[i] : cuts[i + 1]],
            )
            for i in range(passes)
        ]

    def tokens(step: int) -> int:
        seen = [(pairs[i].prompt, pairs[i].sides[side].tokens) for i in order.step(step) for side in sides]
        seen += [(solved[i].prompt, solved[i].tokens) for i in solved_order.step(step)]
        return sum(len(prompt) + len(completion) for prompt, completion in seen)

    plan = TrainingPlan(
        model=models.student if config.lora is not None else models.student.requires_grad_(True),
        optimizer=config.optimizer,
        precision=config.precision,
        recompute=config.recompute,
        compile=config.compile,
        spikes=config.spikes,
        seed=ctx.seed,
        batches=batches,
        learning_rate=config.schedule(config.steps),
        total_steps=config.steps,
        tokens_per_step=tokens,
        tokenizer_dir=models.student_dir,
        renderer=models.loaded_student.renderer,
        checkpoint_every=config.checkpoint_every,
        async_checkpoints=config.async_checkpoints,
        objective=dpd_objective(config, models.teacher if config.imitates else None, parallel.device),
        logged=per_pair,
        evaluation=evaluation_of(config, ctx, models.loaded_student, left_out, parallel),
        start=read_kept(ctx.inputs["state"]) if "state" in ctx.inputs else None,
        keep=kept_facts(config),
        memory=stage_memory(
            config,
            models.student.config,
            parallel.world_size,
            parallel.device.type == "cuda",
            frozen_bytes=_size(models.teacher),
        ),
    )
    train(plan, ctx, parallel)


def _size(model: Decoder | None) -> int:
    """Returns the bytes of a model's weights."""
    return 0 if model is None else sum(p.nbytes for p in model.parameters())


def per_pair(step: int, metrics: StepMetrics) -> dict[str, Any]:
    """Returns the number of pairs in a step, and the objective's sums divided by this number."""
    return {"pairs": metrics.n_tokens, **{name: x / metrics.n_tokens for name, x in metrics.metrics.items()}}


def _summary(samples: dict[str, list[Rollout]]) -> dict[str, Any]:
    """Returns the number of problems, the number of samples by outcome, and avg@k of a model on the problems on which
    it was sampled."""
    outcomes = Counter(r.outcome for rollouts in samples.values() for r in rollouts)
    mean = sum(map(fraction_right, samples.values())) / len(samples) if samples else 0.0
    return {
        "problems": len(samples),
        "samples": outcomes.total(),
        **{outcome.value: outcomes[outcome] for outcome in Outcome},
        "mean": round(mean, 6),
    }
