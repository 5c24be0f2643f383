"""A user's own few problems through rl: no families, reasoning or tools; and evaluation during training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stages.own import OwnSource
from tests.stages.rl.conftest import stop_at_every_token
from thinkling.data.artifact import Artifact, content_files
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate import score
from thinkling.generate.rollouts import read_rollouts
from thinkling.model.huggingface import load_pretrained
from thinkling.progress import Silent
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.rl import stage as rl_stage
from thinkling.stages.rl.band import read
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.training import evaluation
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict


def config(**fields: Any) -> RlConfig:
    sets = {"own": {"source": "own", "n_problems": 6}}
    return RlConfig.model_validate(
        {
            "kind": "rl", "inputs": {"model": "start"}, "problems": [{"source": "own"}],
            "band": {"samples": 8, "low": 0.0, "high": 1.0, "min_prompts": 2}, "steps": 4, "prompts_per_step": 3,
            "samples_per_prompt": 4, "max_new_tokens": 4, "optimizer": {"lr": 3e-3}, "checkpoint_every": 2,
            "evaluate_every": 1, "evaluation": {"task_sets": sets, "max_new_tokens": 4, "k": 2}, "keep_best": True,
        }
        | fields
    )  # fmt: skip


def context(directory: Path, start: Path, n: int = 20) -> StageContext:
    directory.mkdir(exist_ok=True)
    sources = bound({"own": OwnSource(type="own", n=n), "more": OwnSource(type="own", n=3)})
    return StageContext("rl", directory, {"model": Artifact(start, {})}, 5, sources=sources)


@pytest.fixture(autouse=True)
def half_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token ends a sample; right is one of the lower half of all."""
    stop_at_every_token(monkeypatch)

    def judge(samples: Sequence[tuple[Problem, Reading, str]]) -> list[Verdict]:
        right = [bool(reading.text) and ord(reading.text[0]) < 100 for _, reading, _ in samples]
        return [Verdict(Outcome.RIGHT if r else Outcome.WRONG, "rule") for r in right]

    monkeypatch.setattr(score, "judge", judge)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "evaluations.jsonl").read_text().splitlines()]


def test_evaluated_problems_are_left_out_and_the_rest_is_trained_on(tmp_path: Path, start: Path) -> None:
    ctx = context(tmp_path / "r", start)
    rl_stage.run(config(), ctx)
    files = ctx.directory.glob("evaluations/*/own/*.parquet")
    evaluated = {r.problem_id for path in files for r in read_rollouts(path)}
    band = {row.problem_id for row in read(ctx.directory / "band.parquet")}
    assert len(evaluated) == 6
    assert len(band) == 14
    assert evaluated.isdisjoint(band)
    assert ctx.counts["left_out_problems"] == {"own": 6}
    assert [line["step"] for line in lines(ctx.directory)] == [0, 1, 2, 3, 4]
    means = [line["mean"] for line in lines(ctx.directory)]
    assert ctx.counts["evaluation"]["best_score"] == max(means)
    assert ctx.counts["evaluation"]["exported_step"] == means.index(max(means))
    load_pretrained(ctx.directory / "model")


def test_an_evaluation_is_counted_in_steps_not_in_updates(tmp_path: Path, start: Path) -> None:
    ctx = context(tmp_path / "r", start)
    rl_stage.run(config(updates_per_batch=3, evaluate_every=2, evaluate_at_start=False), ctx)
    assert [line["step"] for line in lines(ctx.directory)] == [6, 12]


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("calls", [1, 3, 4])
def test_killed_while_it_evaluates_and_resumed_equals_uninterrupted(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch, calls: int, updates: int
) -> None:
    settings = config(updates_per_batch=updates)
    rl_stage.run(settings, whole := context(tmp_path / "whole", start))
    done = [0]

    def dying(*arguments: Any, **options: Any) -> Any:
        done[0] += 1
        found = sample(*arguments, **options)
        if done[0] == calls:
            raise KeyboardInterrupt
        return found

    sample = evaluation.sample_and_score
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "sample_and_score", dying)
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(settings, context(tmp_path / "cut", start))
    rl_stage.run(settings, cut := context(tmp_path / "cut", start))
    assert cut.counts == whole.counts
    names = list(content_files(whole.directory))
    assert list(content_files(cut.directory)) == names
    assert [n for n in names if (cut.directory / n).read_bytes() != (whole.directory / n).read_bytes()] == []


def test_rewards_of_each_source_are_logged(tmp_path: Path, start: Path) -> None:
    ctx = context(tmp_path / "r", start)
    both = [{"source": "own", "weight": 2}, {"source": "more"}]
    rl_stage.run(config(problems=both, evaluate_every=None, evaluation=None, keep_best=False), ctx)
    logged = [json.loads(line) for line in (ctx.directory / "metrics.jsonl").read_text().splitlines()]
    assert all({"reward", "reward_own", "reward_more"} <= line.keys() for line in logged)


ALONE = {"evaluate_every": None, "evaluation": None, "keep_best": False}


@pytest.mark.parametrize(
    ("fields", "n", "message"),
    [
        (
            {"band": {"min_prompts": 32}, **ALONE}, 20,
            r"stages\.rl\.band\.min_prompts 32: source 'own' has only 20 problems, fewer than the band must keep",
        ),
        (
            {"band": {"min_prompts": 15}}, 20,
            r"source 'own' has only 14 problems that are not among the 6 evaluated ones",
        ),
        (
            {"prompts_per_step": 64, **ALONE}, 20,
            r"stages\.rl\.prompts_per_step 64: only 20 problems in own, and a step uses a problem at most once",
        ),
        ({}, 5, r"sources\.own: it has 5 problems, not 6"),
    ],
)  # fmt: skip
def test_too_few_problems_are_said_before_any_is_sampled(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], n: int, message: str
) -> None:
    """A small source used to end the stage after its pass rates were measured."""
    monkeypatch.setattr("thinkling.stages.rl.band.measure", None)
    with pytest.raises(UserError, match=message):
        rl_stage.run(config(**fields), context(tmp_path / "r", start, n))


def test_a_band_smaller_than_a_step_is_warned_of(tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(Silent, "warn", lambda self, text: warnings.append(text))
    both = [{"source": "own", "weight": 1}, {"source": "more", "weight": 3}]
    rl_stage.run(config(problems=both, prompts_per_step=8, steps=1, **ALONE), context(tmp_path / "r", start))
    assert len(warnings) == 1
    assert warnings[0].startswith("stages.rl.prompts_per_step: a step needs up to 6 problems of 'more', but the band")
