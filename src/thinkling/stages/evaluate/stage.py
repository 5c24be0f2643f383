"""The evaluate stage: held-out problems → samples → verdicts → avg@k, or grades by a rule → mean grade, win rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from thinkling.data.artifact import Artifact, write_json
from thinkling.data.chat_template import load_chat_template
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import sample_and_score, summarise
from thinkling.model.huggingface import load_pretrained
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.evaluate import grades
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.sources import TasksSource
from thinkling.tasks.problem import Problem
from thinkling.verify.preference import is_graded


def run(config: EvaluateConfig, ctx: StageContext) -> None:
    """Scores the model on every task set; goes on after the last finished chunk of samples.

    Raises UserError if a task set's source holds no problems, a rule grades only some of them, the baseline does not
    fit, or a verifier failed: then there is no score.
    """
    directory = ctx.inputs["model"].model_dir
    tokenizer, template = Tokenizer.load(directory), load_chat_template(directory)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    problems = {name: _problems(config, ctx, name) for name in config.task_sets}
    graded = {name: _is_graded(config, ctx, name, found) for name, found in problems.items()}
    baseline = ctx.inputs.get("baseline")
    if baseline is not None and not any(graded.values()):
        raise UserError(f"stages.{ctx.name}.inputs.baseline: no task set is graded by a rule; leave the baseline out")
    engine = NativeEngine(load_pretrained(directory).to(device), config.batch_size)
    scores = []
    for name, task_set in config.task_sets.items():
        store = ctx.directory / "rollouts" / name
        store.mkdir(parents=True, exist_ok=True)
        # A graded task set is sampled with the same random numbers by every stage: comparisons are paired by them.
        seed = derive(0, "graded", name) if graded[name] else derive(ctx.seed, name)
        with ctx.progress.track(name, len(problems[name]) * config.k, "samples") as task:
            rollouts = sample_and_score(
                engine,
                problems[name],
                tokenizer,
                task_set.form,
                config.k,
                Sampling(config.temperature, config.top_p),
                config.max_new_tokens,
                seed,
                store=store,
                template=template,
                on_progress=task.advance,
            )
        entry: dict[str, Any] = {"task_set": name, "form": task_set.form, "measure": "right"}
        score = summarise(rollouts)
        ctx.counts[name] = {"problems": score.n, "samples": score.n * score.k, **score.outcomes}
        if graded[name]:
            rows = _write_grades(ctx, name, rollouts, problems[name])
            score = grades.graded_score(score, rollouts, rows)
            entry["measure"] = "grade"
            if baseline is not None:
                entry["win_rate"] = _against(ctx, name, baseline, rows)
        scores.append({**entry, **asdict(score)})
    write_json(ctx.directory / "scores.json", scores)


def _problems(config: EvaluateConfig, ctx: StageContext, name: str) -> list[Problem]:
    source = ctx.sources[config.task_sets[name].source]
    if not isinstance(source, TasksSource):
        raise UserError(
            f"stages.{ctx.name}.task_sets.{name}.source: {config.task_sets[name].source!r} is of type {source.type}, "
            "not tasks"
        )
    return source.heldout()


def _is_graded(config: EvaluateConfig, ctx: StageContext, name: str, problems: Sequence[Problem]) -> bool:
    found = {is_graded(problem) for problem in problems}
    if len(found) == 2:
        raise UserError(
            f"stages.{ctx.name}.task_sets.{name}: a rule grades some families of {config.task_sets[name].source!r} and "
            "not others; give them a source each"
        )
    if True in found and config.task_sets[name].form == "document":
        raise UserError(f"stages.{ctx.name}.task_sets.{name}.form: what a rule grades is asked in chat form")
    return True in found


def _write_grades(
    ctx: StageContext, name: str, rollouts: Sequence[Rollout], problems: Sequence[Problem]
) -> list[grades.Graded]:
    rows = grades.grade_rollouts(rollouts, problems)
    (ctx.directory / "grades").mkdir(exist_ok=True)
    grades.write_grades(ctx.directory / "grades" / f"{name}.parquet", rows)
    return rows


def _against(ctx: StageContext, name: str, baseline: Artifact, rows: Sequence[grades.Graded]) -> dict[str, Any]:
    other = grades.read_grades(baseline.path / "grades" / f"{name}.parquet")
    try:
        return asdict(grades.win_rate(rows, other))
    except ValueError as error:
        raise UserError(
            f"stages.{ctx.name}.inputs.baseline: its task set {name!r} has other problems or k; {error}"
        ) from error
