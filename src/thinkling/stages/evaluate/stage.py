"""The evaluate stage: held-out problems → samples → verdicts → avg@k."""

from __future__ import annotations

from dataclasses import asdict

import torch

from thinkling.data.artifact import write_json
from thinkling.data.chat_template import load_chat_template
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.score import Score, sample_and_score, summarise
from thinkling.model.huggingface import load_pretrained
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.sources import TasksSource


def run(config: EvaluateConfig, ctx: StageContext) -> None:
    """Scores the model on every task set; goes on after the last finished chunk of samples.

    Raises UserError if a task set's source holds no problems, or a verifier failed: then there is no score.
    """
    torch.set_num_threads(ctx.threads)
    directory = ctx.inputs["model"].model_dir
    tokenizer, template = Tokenizer.load(directory), load_chat_template(directory)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    engine = NativeEngine(load_pretrained(directory).to(device), config.batch_size)
    scores = []
    for name, task_set in config.task_sets.items():
        source = ctx.sources[task_set.source]
        if not isinstance(source, TasksSource):
            raise UserError(
                f"stages.{ctx.name}.task_sets.{name}.source: {task_set.source!r} is of type {source.type}, not tasks"
            )
        problems = source.heldout()
        store = ctx.directory / "rollouts" / name
        store.mkdir(parents=True, exist_ok=True)
        with ctx.progress.track(name, len(problems) * config.k, "samples") as task:
            rollouts = sample_and_score(
                engine,
                problems,
                tokenizer,
                task_set.form,
                config.k,
                Sampling(config.temperature, config.top_p),
                config.max_new_tokens,
                derive(ctx.seed, name),
                store=store,
                template=template,
                on_progress=task.advance,
            )
        score = summarise(rollouts)
        scores.append({"task_set": name, "form": task_set.form, **asdict(score)})
        ctx.counts[name] = _counts(score)
    write_json(ctx.directory / "scores.json", scores)


def _counts(score: Score) -> dict[str, int]:
    return {"problems": score.n, "samples": score.n * score.k, **score.outcomes}
