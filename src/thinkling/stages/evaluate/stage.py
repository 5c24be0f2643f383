"""The evaluate stage: held-out problems → samples → verdicts → avg@k; or, if a rule grades the answers, → grades → mean
grade and win rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from thinkling.data.artifact import Artifact, write_json
from thinkling.data.seals import drop_damaged
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.first_look import all_unreadable
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.renderer import load_renderer
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Sampler, Score, sample_and_score, summarise
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.evaluate import grades
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.evaluate.difference import against
from thinkling.tasks.problem import Problem
from thinkling.verify.preference import is_graded


def run(config: EvaluateConfig, ctx: StageContext) -> None:
    """Scores the model on every task set. A resumed run continues after the last completed chunk of samples.

    Raises UserError if a rule grades only some families of a task set, if the baseline does not match the task sets, or
    if a verifier failed. No score is written in these cases.
    """
    directory = ctx.inputs["model"].model_dir
    renderers = {name: load_renderer(t.renderer, directory, config.chat) for name, t in config.task_sets.items()}
    problems = {name: ctx.sources[t.source].problems("heldout") for name, t in config.task_sets.items()}
    graded = {name: _is_graded(config, ctx, name, found) for name, found in problems.items()}
    baseline = ctx.inputs.get("baseline")
    loaded = LoadedModel.load(directory, renderer=next(iter(config.task_sets.values())).renderer, chat=config.chat)
    engine = make_engine(loaded, config.max_concurrent)
    sampling = Sampling(config.temperature, config.top_p)
    drop_damaged(ctx.directory / "rollouts", ctx.progress.warn, "sampling it again")
    scores = []
    for name, task_set in config.task_sets.items():
        store = ctx.directory / "rollouts" / name
        store.mkdir(parents=True, exist_ok=True)
        # All evaluate stages sample a graded task set with the same random numbers, so that evaluations can be compared
        # sample by sample.
        seed = derive(0, "graded", name) if graded[name] else derive(ctx.seed, name)
        with ctx.progress.track(name, len(problems[name]) * config.k, "samples") as task:
            rollouts = sample_and_score(
                Sampler(engine, renderers[name], sampling, config.max_new_tokens, config.max_tool_calls, task),
                problems[name],
                config.k,
                seed,
                store=store,
            )
        entry: dict[str, Any] = {"task_set": name, "renderer": task_set.renderer, "measure": "right"}
        score = summarise(rollouts)
        ctx.counts[name] = _counts(ctx, name, config, score, rollouts)
        if graded[name]:
            rows = _write_grades(ctx, name, rollouts, problems[name], config.k)
            score = grades.graded_score(score, rollouts, rows)
            entry["measure"] = "grade"
            if baseline is not None:
                entry["win_rate"] = _against(ctx, name, baseline, rows)
        elif baseline is not None:
            entry["difference"] = _minus(ctx, name, baseline, rollouts)
        scores.append({**entry, **asdict(score)})
    write_json(ctx.directory / "scores.json", scores)


def _is_graded(config: EvaluateConfig, ctx: StageContext, name: str, problems: Sequence[Problem]) -> bool:
    found = {is_graded(problem) for problem in problems}
    if len(found) == 2:
        raise UserError(
            f"stages.{ctx.name}.task_sets.{name}: the verifiers of {config.task_sets[name].source!r} grade "
            "the answers of only some families; move these families to a separate source"
        )
    return True in found


def _counts(
    ctx: StageContext, name: str, config: EvaluateConfig, score: Score, rollouts: Sequence[Rollout]
) -> dict[str, Any]:
    """Counts the samples by outcome, the truncated samples and the well-formed samples. If all samples fail in the same
    way, a warning is shown in the terminal and added to the counts. This is not an error, because a base model may
    legitimately score 0."""
    counts: dict[str, Any] = {
        "problems": score.n,
        "samples": score.n * score.k,
        **score.outcomes,
        "truncated": score.truncated,
        "well_formed": sum(r.reading.well_formed for r in rollouts),
    }
    reason = all_unreadable([(r.reading, r.truncated) for r in rollouts], config.max_new_tokens)
    if reason is not None:
        counts["warning"] = reason
        ctx.progress.warn(f"stages.{ctx.name}.task_sets.{name}: {reason}")
    return counts


def _write_grades(
    ctx: StageContext, name: str, rollouts: Sequence[Rollout], problems: Sequence[Problem], k: int
) -> list[grades.GradedSample]:
    rows = grades.grade_rollouts(rollouts, problems, k)
    (ctx.directory / "grades").mkdir(exist_ok=True)
    grades.write_grades(ctx.directory / "grades" / f"{name}.parquet", rows)
    return rows


def _against(ctx: StageContext, name: str, baseline: Artifact, rows: Sequence[grades.GradedSample]) -> dict[str, Any]:
    other = grades.read_grades(baseline.path / "grades" / f"{name}.parquet")
    try:
        return asdict(grades.win_rate(rows, other))
    except ValueError as error:
        raise UserError(
            f"stages.{ctx.name}.inputs.baseline: task set {name!r} of the baseline has different problems or a "
            f"different k ({error}); choose a baseline with the same task set"
        ) from error


def _minus(ctx: StageContext, name: str, baseline: Artifact, rollouts: Sequence[Rollout]) -> dict[str, Any]:
    try:
        return asdict(against(baseline.path / "rollouts" / name, rollouts))
    except ValueError as error:
        raise UserError(
            f"stages.{ctx.name}.inputs.baseline: task set {name!r} of the baseline has different problems or is "
            f"missing ({error}); choose a baseline with the same task set"
        ) from error
