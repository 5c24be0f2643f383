"""Evaluation during training: when it runs, what it measures and writes, and which step has the best weights so far."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from thinkling.data.atomic import replacing
from thinkling.data.packing import PackedBatch
from thinkling.data.seals import drop_damaged, require, require_lines, seal
from thinkling.generate.engine import Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.first_look import all_unreadable
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.renderer import load_renderer
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Sampler, sample_and_score
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.training.callbacks import CHECKPOINTS, checkpoint, lines_by_step
from thinkling.stages.training.config import LOSS, EvaluatedConfig, EvaluationConfig
from thinkling.stages.training.left_out import LeftOut
from thinkling.stages.training.objective import mean_loss
from thinkling.stats import bootstrap_interval
from thinkling.tasks.problem import Problem
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.parallel import Parallel
from thinkling.verify.preference import grade, is_graded
from thinkling.verify.verdict import Outcome

FILE, ROLLOUTS, BEST = "evaluations.jsonl", "evaluations", "best"
Line = dict[str, Any]
"""A line of evaluations.jsonl: `step` (number of completed steps) and `task_set` with `mean`, `low` and `high` (95%
bootstrap interval over problems). If `task_set` is null, the line contains the `loss` of the validation split
instead."""


@dataclass(frozen=True)
class Evaluation:
    """Evaluations that run during training: what they measure, and when they run."""

    every: int
    """Number of steps between evaluations."""
    at_start: bool
    keep_best: bool
    n_lines: int
    """Number of lines per evaluation."""
    measure: Callable[[nn.Module, int], list[Line]]
    """(model, number of completed steps) → the lines of an evaluation, equal on all ranks."""
    warn: Callable[[str], None] = warnings.warn
    """Called with a warning for each corrupt file that is recreated."""


def evaluation_of(
    config: EvaluatedConfig,
    ctx: StageContext,
    loaded: LoadedModel,
    left_out: LeftOut,
    parallel: Parallel,
    validation: Callable[[], Iterator[PackedBatch]] | None = None,
    updates_per_step: int = 1,
) -> Evaluation | None:
    """Returns the evaluation that the stage requests, or None. The evaluated model is `loaded.decoder`, which is
    trained in place.

    `validation`: reads the batches on which the loss is measured. `updates_per_step`: number of trainer steps per step
    of the stage.
    """
    if config.evaluate_every is None:
        return None
    scores = None if config.evaluation is None else _Scores(config.evaluation, ctx, loaded, left_out.problems)

    def measure(model: nn.Module, step: int) -> list[Line]:
        training = model.training
        model.eval()
        lines = list(scores.lines(step)) if scores else []
        if validation is not None:
            # All ranks take part in the forward passes of a sharded model, but all of them use the loss of rank 0, so
            # that they agree on the best step.
            own = mean_loss(model, validation(), parallel.device, config.precision.compute)
            own *= parallel.rank == 0
            loss = parallel.all_reduce_sum(torch.tensor(own, dtype=torch.float64, device=parallel.device))
            lines.append(_line(step, None, loss=float(loss), n=left_out.n_validation))
        model.train(training)
        return lines

    n_lines = len(left_out.problems) + (validation is not None)
    every = config.evaluate_every * updates_per_step
    return Evaluation(every, config.evaluate_at_start, config.keep_best, n_lines, measure, ctx.progress.warn)


class _Scores:
    """Measures avg@k on task sets, using the native engine with the current weights.

    A sample uses the same random numbers at every step, so that steps differ only in their weights. Rollouts are stored
    in `evaluations/STEP/TASK_SET`, so that a resumed run need not sample completed rollouts again.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        ctx: StageContext,
        loaded: LoadedModel,
        problems: Mapping[str, Sequence[Problem]],
    ) -> None:
        self.config, self.ctx, self.loaded, self.problems = config, ctx, loaded, problems
        self.renderers = {
            name: loaded.renderer if task_set.renderer == "chat" else load_renderer(task_set.renderer, loaded.directory)
            for name, task_set in config.task_sets.items()
        }
        self._warned: set[str] = set()

    def lines(self, step: int) -> Iterator[Line]:
        """Yields one line per task set. The engine contains a copy of the weights, so it exists only during this
        call."""
        config = self.config
        engine = make_engine(self.loaded, config.max_concurrent)
        engine.update_weights(step)
        for name, problems in self.problems.items():
            store = self.ctx.directory / ROLLOUTS / f"{step:08d}" / name
            store.mkdir(parents=True, exist_ok=True)
            sampling = Sampling(config.temperature, config.top_p)
            seed, renderer = derive(self.ctx.seed, "evaluation", name), self.renderers[name]
            with self.ctx.progress.track(f"{self.ctx.name}: {name}", len(problems) * config.k, "samples") as task:
                sampler = Sampler(engine, renderer, sampling, config.max_new_tokens, config.max_tool_calls, task)
                rollouts = sample_and_score(sampler, problems, config.k, seed, store=store)
            self._warn(name, rollouts)
            yield _line(step, name, **_score(rollouts, problems, config.k))

    def _warn(self, name: str, rollouts: Sequence[Rollout]) -> None:
        """Warns if all samples have the same defect or if a verifier failed. Each warning is shown once per task
        set."""
        failed = [r for r in rollouts if r.outcome == Outcome.ERROR]
        reasons = {
            "unreadable": all_unreadable([(r.reading, r.truncated) for r in rollouts], self.config.max_new_tokens),
            "failed": f"verifier {failed[0].tier} failed on {len(failed)} of {len(rollouts)} samples "
            f"({failed[0].detail}); the step has no score"
            if failed
            else None,
        }
        for kind, reason in reasons.items():
            if reason is not None and name + kind not in self._warned:
                self._warned.add(name + kind)
                self.ctx.progress.warn(f"stages.{self.ctx.name}.evaluation.task_sets.{name}: {reason}")


def _line(step: int, task_set: str | None, **found: Any) -> Line:
    return {"step": step, "task_set": task_set, "mean": None, "low": None, "high": None, "loss": None, **found}


def _score(rollouts: Sequence[Rollout], problems: Sequence[Problem], k: int) -> dict[str, Any]:
    """Returns avg@k with its interval or, if a rule grades the answers, the mean grade with its interval. If a verifier
    failed, the mean and the interval are omitted."""
    asked = [problem for problem in problems for _ in range(k)]
    values = [
        grade(problem, r.reading, r.truncated) if is_graded(problem) else float(r.right)
        for r, problem in zip(rollouts, asked, strict=True)
    ]
    outcomes = Counter(r.outcome for r in rollouts)
    means = np.array(values).reshape(-1, k).mean(axis=1)
    low, high = bootstrap_interval(means)
    score = {"mean": float(means.mean()), "low": low, "high": high}
    return {
        **({} if outcomes[Outcome.ERROR] else score),
        "n": len(problems),
        "k": k,
        "thinking_fraction": sum(r.thinks for r in rollouts) / len(rollouts),
        "truncated_fraction": sum(r.truncated for r in rollouts) / len(rollouts),
        "outcomes": {outcome.value: outcomes[outcome] for outcome in Outcome},
    }


def value_of(lines: Sequence[Line]) -> float | None:
    """Returns the value by which evaluations are compared (higher is better): the mean over task sets or, if there are
    none, the negated loss. Returns None if a score is missing or the loss is not finite."""
    means = [line["mean"] for line in lines if line["task_set"] is not None]
    if means:
        return None if None in means else math.fsum(means) / len(means)
    return -lines[0]["loss"] if math.isfinite(lines[0]["loss"]) else None


def by_step(lines: Sequence[Line]) -> dict[int, list[Line]]:
    """Groups lines by evaluation: number of completed steps → lines."""
    return {step: list(found) for step, found in groupby(lines, key=lambda line: line["step"])}


def best_step(lines: Sequence[Line]) -> int | None:
    """Returns the step of the best evaluation, or None if no step has a value. In case of a tie, the earlier step is
    returned."""
    values = {step: value for step, found in by_step(lines).items() if (value := value_of(found)) is not None}
    return max(values, key=lambda step: values[step]) if values else None


def read_lines(path: Path) -> list[Line]:
    """Reads the complete lines of evaluations.jsonl. Returns an empty list if the file is missing."""
    return [json.loads(line) for _, line in lines_by_step(path)]


class RunEvaluation(Callback):
    """Runs evaluations, writes evaluations.jsonl, notifies the other callbacks, and stores the best weights.

    A killed run resumes from a checkpoint and repeats some steps. For each existing checkpoint, the weights that were
    the best at that point therefore stay on disk, in `best/STEP/`, even if a later step is better.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        model: nn.Module,
        directory: Path,
        steps: range,
        listeners: Sequence[Callback],
        parallel: Parallel,
        export: Callable[[Path], None],
    ) -> None:
        """`directory`: the stage's directory. `steps`: all steps of the training run. `export`: writes the model to a
        directory."""
        self.evaluation, self.model, self.directory, self.steps = evaluation, model, directory, steps
        self.listeners, self.parallel, self.export = listeners, parallel, export
        self.lines: list[Line] = []
        self._safe: set[int | None] = set()
        """For each existing checkpoint, the step that had the best weights at that point."""

    def on_start(self, first_step: int) -> None:
        """Drops the evaluations that a killed run made after its last checkpoint. The resumed run repeats these
        evaluations, with the same results.

        Raises UserError if earlier evaluations, or the best weights at the checkpoint, are corrupt.
        """
        found = by_step(read_lines(self.directory / FILE))
        whole = [lines for step, lines in found.items() if step <= first_step and len(lines) == self.evaluation.n_lines]
        self.lines = [line for lines in whole for line in lines]
        kept = "".join(map(_written, self.lines)).encode()
        require_lines(kept, self.directory / FILE, checkpoint(self.directory, first_step), self.directory)
        self._safe = self._safe_steps()
        self.parallel.barrier()
        if self.parallel.rank == 0:
            self._check_files()
            with replacing(self.directory / FILE) as temporary:
                temporary.write_text("".join(map(_written, self.lines)), encoding="utf-8")
            self._drop_weights(self._safe)
        self.parallel.barrier()
        if self.evaluation.at_start and first_step == self.steps.start and first_step not in by_step(self.lines):
            self._evaluate(first_step)
            self._safe = self._safe_steps()

    def _safe_steps(self, new: int | None = None) -> set[int | None]:
        """`new`: steps done at a checkpoint that is being written."""
        folder = self.directory / CHECKPOINTS
        steps = [int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdecimal()]
        steps += [] if new is None else [new]
        steps = steps or [self.steps.start]  # the step from which a killed run would resume
        return {best_step([line for line in self.lines if line["step"] <= step]) for step in steps}

    def _check_files(self) -> None:
        best = best_step(self.lines)
        if best is not None and self.evaluation.keep_best:
            require(best_weights(self.directory, best), self.directory)
        measured = {line["step"] for line in self.lines}
        for rollouts in sorted((self.directory / ROLLOUTS).glob("[0-9]*")):
            if int(rollouts.name) in measured:
                require(rollouts, self.directory)
            else:
                drop_damaged(rollouts, self.evaluation.warn, "sampling it again")

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        done = step + 1
        if done % self.evaluation.every == 0 or done == self.steps.stop:
            self._evaluate(done)

    def on_checkpoint(self, step: int, directory: Path) -> None:
        if self.parallel.rank == 0 and (self.directory / FILE).exists():
            seal(self.directory / FILE, directory)
        # A killed run resumes from this checkpoint or, if it is not complete yet, from one of those before it.
        self._safe = self._safe_steps(step + 1)
        self._drop_weights(self._safe)

    def _evaluate(self, done: int) -> None:
        new = self.evaluation.measure(self.model, done)
        if self.evaluation.keep_best and best_step([*self.lines, *new]) == done:
            # Store the weights before the lines: if the lines of the best step are on disk, its weights must be on disk
            # too.
            self._keep_weights(done)
        self.lines += new
        if self.parallel.rank == 0:
            with (self.directory / FILE).open("a", encoding="utf-8") as file:
                file.write("".join(map(_written, new)))
        values = {line["task_set"] or LOSS: line["loss"] if line["mean"] is None else line["mean"] for line in new}
        known = {name: value for name, value in values.items() if value is not None}
        for listener in self.listeners:
            listener.on_validation(max(done - 1, 0), known)

    def _keep_weights(self, done: int) -> None:
        path = best_weights(self.directory, done)
        temporary = path.with_name(path.name + ".tmp")
        self.export(temporary)
        if self.parallel.rank == 0:
            seal(temporary)
            shutil.rmtree(path, ignore_errors=True)
            temporary.rename(path)
            self._drop_weights({done, *self._safe})

    def _drop_weights(self, kept: set[int | None]) -> None:
        names = {best_weights(self.directory, step).name for step in kept if step is not None}
        folder = self.directory / BEST
        for path in folder.iterdir() if self.parallel.rank == 0 and folder.is_dir() else ():
            if path.name not in names:
                shutil.rmtree(path)


def best_weights(directory: Path, step: int) -> Path:
    """Returns the directory that contains the weights of a step while that step is the best."""
    return directory / BEST / f"step-{step:08d}"


def _written(line: Line) -> str:
    return json.dumps(line) + "\n"


def summary(directory: Path, keep_best: bool) -> dict[str, Any]:
    """Returns a summary for the manifest's counts: the number of evaluations, the last and the best evaluation, and the
    step whose model is exported."""
    found = by_step(read_lines(directory / FILE))
    last, best = max(found), best_step([line for lines in found.values() for line in lines])
    measure = "mean" if any(line["task_set"] is not None for line in found[last]) else LOSS
    sign = -1 if measure == LOSS else 1

    def score(step: int | None) -> float | None:
        value = None if step is None else value_of(found[step])
        return None if value is None else sign * value

    return {
        "evaluations": len(found),
        "measure": measure,
        "best_step": best,
        "best_score": score(best),
        "last_step": last,
        "last_score": score(last),
        "exported_step": best if keep_best and best is not None else last,
    }
