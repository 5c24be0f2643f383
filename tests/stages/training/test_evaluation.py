"""Evaluation during training: when, what is written, which step is exported, and runs that are killed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.stages.training.test_plan import batch, context, plan
from thinkling.data.artifact import content_files
from thinkling.data.packing import PackedBatch
from thinkling.data.tokenizer import train_bpe
from thinkling.generate.rollouts import Rollout
from thinkling.progress import Silent
from thinkling.stages.training import plan as training
from thinkling.stages.training.evaluation import Evaluation, _score, best_step, read_lines, value_of
from thinkling.tasks.problem import Problem
from thinkling.train.callback import Callback
from thinkling.train.parallel import Parallel

WEIGHTS = "model/model.safetensors"


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    train_bpe(["abc abc abd " * 50], 268).save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def line(step: int, mean: float | None = None, loss: float | None = None, task_set: str = "a") -> dict[str, Any]:
    return {"step": step, "task_set": task_set if loss is None else None, "mean": mean, "loss": loss}


def measured(scores: Mapping[int, float | None], seen: list[int] | None = None) -> Callable[..., list[dict[str, Any]]]:
    """An evaluation that knows its scores."""

    def measure(model: nn.Module, step: int) -> list[dict[str, Any]]:
        if seen is not None:
            seen.append(step)
        return [{**line(step, scores[step]), "low": 0.0, "high": 1.0}]

    return measure


def evaluation(measure: Callable[..., list[dict[str, Any]]], **fields: Any) -> Evaluation:
    return Evaluation(**{"every": 2, "at_start": True, "keep_best": True, "n_lines": 1, "measure": measure} | fields)


def train(
    directory: Path, tokenizer_dir: Path, found: Evaluation | None, until: int | None = None, steps: int = 9
) -> dict[str, Any]:
    """Trains, with a checkpoint every 4 steps, and returns the counts; with `until`, dies before that step."""

    def batches(step: int) -> list[PackedBatch]:
        if step == until:
            raise KeyboardInterrupt
        return [batch(step)]

    ctx = context(directory)
    training.train(plan(tokenizer_dir, batches, steps, evaluation=found, prefetch=0), ctx, Parallel())
    return ctx.counts


# Best as of the checkpoint at 4: step 2; at 8: step 6; the rest is worse.
SCORES = {0: 0.1, 2: 0.5, 4: 0.3, 6: 0.7, 8: 0.7, 9: 0.2}


def test_every_n_steps_at_the_start_and_after_the_last(tmp_path: Path, tokenizer_dir: Path) -> None:
    seen: list[int] = []
    counts = train(tmp_path / "r", tokenizer_dir, evaluation(measured(SCORES, seen)))
    assert seen == [0, 2, 4, 6, 8, 9]
    assert [found["step"] for found in read_lines(tmp_path / "r" / "evaluations.jsonl")] == seen
    assert counts["evaluation"] == {
        "evaluations": 6, "measure": "mean", "best_step": 6, "best_score": 0.7, "last_step": 9, "last_score": 0.2,
        "exported_step": 6,
    }  # fmt: skip
    seen.clear()
    train(tmp_path / "s", tokenizer_dir, evaluation(measured(SCORES, seen), at_start=False, every=4))
    assert seen == [4, 8, 9]


def test_the_best_step_is_exported_of_equal_ones_the_earlier(tmp_path: Path, tokenizer_dir: Path) -> None:
    train(tmp_path / "best", tokenizer_dir, evaluation(measured(SCORES)))
    train(tmp_path / "six", tokenizer_dir, None, steps=6)
    assert (tmp_path / "best" / WEIGHTS).read_bytes() == (tmp_path / "six" / WEIGHTS).read_bytes()
    assert not (tmp_path / "best" / "best").exists()
    counts = train(tmp_path / "last", tokenizer_dir, evaluation(measured(SCORES), keep_best=False))
    train(tmp_path / "plain", tokenizer_dir, None)
    assert (tmp_path / "last" / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()
    assert counts["evaluation"]["exported_step"] == 9


def test_training_that_only_harms_exports_the_model_that_entered(tmp_path: Path, tokenizer_dir: Path) -> None:
    found = evaluation(measured({step: 1.0 - step / 10 for step in SCORES}))
    counts = train(tmp_path / "r", tokenizer_dir, found)
    assert counts["evaluation"]["exported_step"] == 0


@pytest.mark.parametrize("until", [0, 1, 3, 5, 7, 8])
def test_killed_anywhere_and_resumed_equals_uninterrupted(tmp_path: Path, tokenizer_dir: Path, until: int) -> None:
    train(tmp_path / "whole", tokenizer_dir, evaluation(measured(SCORES)))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES)), until=until)
    seen: list[int] = []
    train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES, seen)))
    checkpoint = until // 4 * 4
    assert [step for step in seen if step <= checkpoint] == [], "what was measured up to a checkpoint is not repeated"
    same_files(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize(
    ("place", "at"),
    [
        ("measure", 0),
        ("measure", 4),
        ("measure", 9),
        ("weights", 0),
        ("weights", 6),
        ("line", 0),
        ("line", 6),
        ("line", 9),
    ],
)
def test_killed_inside_an_evaluation(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, place: str, at: int
) -> None:
    train(tmp_path / "whole", tokenizer_dir, evaluation(measured(SCORES)))

    def dying(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:

        def measure(model: nn.Module, step: int) -> list[dict[str, Any]]:
            if step == at and place == "measure":
                raise KeyboardInterrupt
            if step == at and place == "weights":
                patch.setattr(training, "export", dying)
            if step == at and place == "line":
                patch.setattr("thinkling.stages.training.evaluation._written", dying)
            return measured(SCORES)(model, step)

        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", tokenizer_dir, evaluation(measure))
    train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES)))
    same_files(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_while_it_exports(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    train(tmp_path / "whole", tokenizer_dir, evaluation(measured(SCORES)))
    with monkeypatch.context() as patch:

        def dying(*arguments: Any, **options: Any) -> None:
            if place == "after":
                copy(*arguments, **options)
            raise KeyboardInterrupt

        copy = training.shutil.copytree
        patch.setattr(training.shutil, "copytree", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES)))
    train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES)))
    same_files(tmp_path / "cut", tmp_path / "whole")


def same_files(one: Path, other: Path) -> None:
    names = list(content_files(other))
    assert list(content_files(one)) == names
    assert [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()] == []


def test_the_best_as_of_the_checkpoint_survives_a_better_step_after_it(tmp_path: Path, tokenizer_dir: Path) -> None:
    """On a GPU a step that is trained again need not score as before: its weights must not replace the only others."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", tokenizer_dir, evaluation(measured(SCORES)), until=7)
    kept = {path.name for path in (tmp_path / "cut" / "best").iterdir()}
    assert kept == {"step-00000002", "step-00000006"}
    counts = train(tmp_path / "cut", tokenizer_dir, evaluation(measured({**SCORES, 6: 0.4, 8: 0.4})))
    assert counts["evaluation"]["exported_step"] == 2
    train(tmp_path / "two", tokenizer_dir, None, steps=2)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_without_any_score_the_last_step_is_exported(tmp_path: Path, tokenizer_dir: Path) -> None:
    counts = train(tmp_path / "r", tokenizer_dir, evaluation(measured(dict.fromkeys(SCORES))))
    assert counts["evaluation"]["best_step"] is None
    assert counts["evaluation"]["exported_step"] == 9
    train(tmp_path / "plain", tokenizer_dir, None)
    assert (tmp_path / "r" / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()


def test_evaluating_changes_nothing_in_training(tmp_path: Path, tokenizer_dir: Path) -> None:
    train(tmp_path / "plain", tokenizer_dir, None)
    train(tmp_path / "evaluated", tokenizer_dir, evaluation(measured(SCORES), keep_best=False))
    for name in ("metrics.jsonl", WEIGHTS):
        assert (tmp_path / "evaluated" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_listeners_are_told(tmp_path: Path, tokenizer_dir: Path) -> None:
    heard: list[tuple[int, dict[str, float]]] = []

    class Listener(Callback):
        def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
            heard.append((step, dict(losses)))

    found = evaluation(measured({**SCORES, 4: None}), every=4)
    made = plan(tokenizer_dir, lambda step: [batch(step)], 9, evaluation=found, callbacks=[Listener()])
    training.train(made, context(tmp_path / "r"), Parallel())
    assert heard == [(0, {"a": 0.1}), (3, {}), (7, {"a": 0.7}), (8, {"a": 0.2})]
    log = [json.loads(text) for text in (tmp_path / "r" / "train.log.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["validation"]) for entry in log if "validation" in entry] == heard


def test_the_progress_bar_shows_the_last_score(tmp_path: Path, tokenizer_dir: Path) -> None:
    shown: list[object] = []

    class Watching(Silent):
        @contextmanager
        def track(self, label: str, total: float, unit: str, done: float = 0) -> Iterator[Any]:
            yield self

        def advance(self, amount: float = 1, **fields: object) -> None:
            shown.append(fields.get("validation a"))

    ctx = context(tmp_path / "r")
    ctx.progress = Watching()
    made = plan(tokenizer_dir, lambda step: [batch(step)], 5, evaluation=evaluation(measured({**SCORES, 5: 0.6})))
    training.train(made, ctx, Parallel())
    assert shown == [0.1, 0.1, 0.5, 0.5, 0.3]


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(json.dumps(line(0, 0.5)) + '\n{"step": 2, "me')
    assert read_lines(tmp_path / "e.jsonl") == [line(0, 0.5)]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_step_is_judged_by_its_task_sets_or_else_by_its_loss() -> None:
    assert value_of([line(0, 0.25), line(0, 0.75, task_set="b"), line(0, loss=9.0)]) == 0.5
    assert value_of([line(0, 0.25), line(0, None, task_set="b")]) is None
    assert value_of([line(0, loss=2.5)]) == -2.5
    assert value_of([line(0, loss=math.nan)]) is None
    assert best_step([line(0, loss=2.5), line(2, loss=1.5), line(4, loss=1.5), line(6, loss=math.inf)]) == 2
    assert best_step([]) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=12))
def test_the_best_is_the_first_of_the_highest(scores: Sequence[int | None]) -> None:
    known = [score for score in scores if score is not None]
    found = best_step([line(step, score) for step, score in enumerate(scores)])
    assert found == (scores.index(max(known)) if known else None)


def rollout(problem: str, sample: int, outcome: str, finish: Any = "stop") -> Rollout:
    return Rollout(problem, "f", sample, "q", "a", "t", outcome, "x", "", True, finish, [1], [2], [0.0], [0], [False])


def test_a_score_is_the_mean_over_problems_and_withheld_where_a_verifier_failed() -> None:
    problems = [Problem(name, "f", "q", "a", "", "exact") for name in ("p", "q")]
    outcomes = ["right", "wrong", "unverifiable", "right"]
    rollouts = [rollout("pq"[i // 2], i % 2, outcome) for i, outcome in enumerate(outcomes)]
    found = _score(rollouts, problems, 2)
    assert (found["mean"], found["n"], found["k"]) == (0.5, 2, 2)
    assert found["low"] <= 0.5 <= found["high"]
    assert (found["outcomes"]["right"], found["outcomes"]["unverifiable"]) == (2, 1)
    failed = _score([*rollouts[:3], rollout("q", 1, "error")], problems, 2)
    assert "mean" not in failed
    assert failed["outcomes"]["error"] == 1
