"""The whole stage on a tiny model: refills, resumption after a kill, and that rewards rise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.stages.rl.conftest import stop_at_every_token
from thinkling.data.artifact import Artifact, content_files
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate import engines, score
from thinkling.generate.renderer import Renderer
from thinkling.progress import Silent
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.rl import stage as rl_stage
from thinkling.stages.rl.collect import Collector, Rollouts
from thinkling.stages.rl.config import RlConfig
from thinkling.tasks.problem import Problem
from thinkling.train.callback import SavedCheckpoint
from thinkling.verify.verdict import Outcome, Verdict


def config(**fields: Any) -> RlConfig:
    return RlConfig.model_validate(
        {
            "kind": "rl",
            "inputs": {"model": "start"},
            "problems": [{"source": "puzzles", "n_problems": 24}],
            "band": {"samples": 8, "low": 0.0, "high": 1.0, "min_prompts": 2},
            "steps": 5,
            "prompts_per_step": 3,
            "samples_per_prompt": 4,
            "max_new_tokens": 4,
            "optimizer": {"name": "adamw", "lr": 3e-3},
            "checkpoint_every": 2,
            "rollouts_every": 3,
        }
        | fields
    )


def context(directory: Path, start: Path) -> StageContext:
    directory.mkdir(exist_ok=True)
    sources = bound({"puzzles": PuzzlesSource(type="puzzles", families={"sort": {}, "maximum": {}})})
    return StageContext(name="rl", directory=directory, inputs={"model": Artifact(start, {})}, seed=5, sources=sources)


def log(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def judged_by(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a rule in the verifiers' place, so that a model without skills can be right."""

    def use(right: Any) -> None:
        def judge(samples: Sequence[tuple[Problem, Reading, str]]) -> list[Verdict]:
            outcomes = [right(problem, reading.text) for problem, reading, _ in samples]
            named = {True: Outcome.RIGHT, False: Outcome.WRONG}
            return [Verdict(named[o] if isinstance(o, bool) else o, "rule") for o in outcomes]

        monkeypatch.setattr(score, "judge", judge)

    return use


def low_first(_: Problem, text: str) -> bool:
    """Right: the first byte of the text is in the lower half of all. Random weights get half of it right."""
    return bool(text) and ord(text[0]) < 100


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token ends a sample: nothing is cut off."""
    stop_at_every_token(monkeypatch)


@pytest.mark.usefixtures("stopping")
def test_rewards_rise_and_counts_add_up(tmp_path: Path, start: Path, judged_by: Any) -> None:
    judged_by(low_first)
    ctx = context(tmp_path / "r", start)
    sizes = {"steps": 30, "prompts_per_step": 6, "samples_per_prompt": 8, "max_refills": 1}
    settings = config(**sizes, optimizer={"lr": 0.02}, decay_fraction=0)
    rl_stage.run(settings, ctx)
    lines = log(ctx.directory)
    rewards = [line["reward"] for line in lines]
    assert sum(rewards[:3]) / 3 < 0.8
    assert sum(rewards[-3:]) / 3 > 0.95
    assert all(line["mismatch_max"] < 1e-4 and line["mismatch_kl"] < 1e-6 for line in lines)
    assert all(line["groups"] + line["groups_missing"] == 6 for line in lines)
    assert all(line["samples"] == 8 * (6 + line["groups_refilled"]) for line in lines)
    assert [line["version"] for line in lines] == list(range(30))
    band = ctx.counts["puzzles"]
    assert band["problems"] == 24 == band["kept"] + band["too_hard"] + band["too_easy"] + band["undecided"]
    totals = ctx.counts["training"]
    assert totals["groups"] == sum(line["groups"] for line in lines)
    assert {p.parent.name for p in (ctx.directory / "rollouts").rglob("*.parquet")} == {
        f"{step:05d}" for step in range(0, 30, 3)
    }


class Warned(Silent):
    """Collects warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.usefixtures("stopping")
def test_a_source_without_problems_in_the_band_is_skipped(tmp_path: Path, start: Path, judged_by: Any) -> None:
    """`min_prompts: 0`: a source that the model has solved gives its share to the others."""
    judged_by(lambda problem, text: problem.family == "maximum" or low_first(problem, text))
    wanted = {
        "problems": [{"source": "sorts", "n_problems": 24}, {"source": "solved", "n_problems": 24}],
        "band": {"samples": 8, "low": 0.0, "high": 1.0, "min_prompts": 0},
    }
    families = {"sorts": "sort", "solved": "maximum"}
    sources = bound({name: PuzzlesSource(type="puzzles", families={f: {}}) for name, f in families.items()})
    ctx = replace(context(tmp_path / "r", start), sources=sources, progress=(progress := Warned()))
    rl_stage.run(config(**wanted), ctx)
    assert any("no problem of 'solved' has a pass rate inside the band" in text for text in progress.warnings)
    assert (ctx.counts["solved"]["kept"], ctx.counts["solved"]["too_easy"]) == (0, 24)
    assert all(line["groups"] + line["groups_missing"] == 3 for line in log(ctx.directory))
    assert any(line["groups"] == 3 for line in log(ctx.directory))


@pytest.mark.usefixtures("stopping")
def test_a_band_without_any_problem_ends_the_stage(tmp_path: Path, start: Path, judged_by: Any) -> None:
    judged_by(lambda problem, text: True)
    empty = config(band={"samples": 8, "low": 0.0, "high": 1.0, "min_prompts": 0})
    with pytest.raises(UserError, match=r"stages\.rl\.band: no problem of any source has a pass rate strictly between"):
        rl_stage.run(empty, context(tmp_path / "r", start))


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_samples_are_drawn_in_the_dtype_of_training(
    tmp_path: Path, start: Path, judged_by: Any, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    """Rounding alone lies between policy and trainer. A killed run goes on the same."""
    judged_by(low_first)
    dtypes: list[Any] = []

    def make_engine(loaded: Any, max_concurrent: int, dtype: Any) -> Any:
        dtypes.append(dtype)
        return engines.make_engine(loaded, max_concurrent, dtype)

    monkeypatch.setattr(rl_stage, "make_engine", make_engine)
    settings = config(precision={"compute": "bfloat16", "weights": weights})
    whole, cut = context(tmp_path / "whole", start), context(tmp_path / "cut", start)
    rl_stage.run(settings, whole)
    assert dtypes == [torch.bfloat16]
    assert all(line["mismatch_kl"] < 1e-4 for line in log(whole.directory))
    collect = Collector.collect

    def dying(self: Collector, number: int) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return collect(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "collect", dying)
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(settings, cut)
    cut = context(tmp_path / "cut", start)
    rl_stage.run(settings, cut)
    for name in content_files(whole.directory):
        assert (cut.directory / name).read_bytes() == (whole.directory / name).read_bytes(), name


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("step", [0, 3, 4])
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, start: Path, judged_by: Any, monkeypatch: pytest.MonkeyPatch, updates: int, step: int
) -> None:
    judged_by(low_first)
    settings = config(updates_per_batch=updates)
    whole, cut = context(tmp_path / "whole", start), context(tmp_path / "cut", start)
    rl_stage.run(settings, whole)
    collect = Collector.collect

    def dying(self: Collector, number: int) -> Any:
        found = collect(self, number)
        if number == step:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Collector, "collect", dying)
    with pytest.raises(KeyboardInterrupt):
        rl_stage.run(settings, cut)
    monkeypatch.setattr(Collector, "collect", collect)
    cut = context(tmp_path / "cut", start)
    rl_stage.run(settings, cut)
    assert cut.counts == whole.counts
    names = list(content_files(whole.directory))
    assert list(content_files(cut.directory)) == names
    assert all((cut.directory / n).read_bytes() == (whole.directory / n).read_bytes() for n in names)


def test_rollouts_are_kept_until_the_checkpoint_after_them_is_complete() -> None:
    """With async checkpoints, steps begin while the checkpoint is still being written. A run that is killed then
    resumes from the checkpoint before, and needs their rollouts."""
    pruned: list[int] = []
    collector: Any = SimpleNamespace(prune=pruned.append, resume=lambda step: None, collect=lambda step: Rollouts())
    engine: Any = SimpleNamespace(update_weights=lambda version: None, release=lambda: None)
    loop = rl_stage.RlLoop(config(updates_per_batch=2), engine, collector, torch.device("cpu"))
    loop.on_start(0)
    for update in range(12):
        loop.before_step(update)
        if update == 9:  # the checkpoint after 2 batches of 2 updates, which is due after update 3
            loop.on_checkpoint_saved(SavedCheckpoint(4, Path(), 0.0, 0.0))
    assert pruned == [0, 0, 0, 0, 0, 2]
    loop.on_start(8)
    loop.before_step(8)
    assert pruned[-1] == 4


@pytest.mark.usefixtures("stopping")
def test_a_verdict_that_depended_on_the_clock_is_replayed(
    tmp_path: Path, start: Path, judged_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run's verdicts are read back, though the verifier would judge otherwise now."""
    judged_by(low_first)
    rl_stage.run(config(), whole := context(tmp_path / "whole", start))
    with monkeypatch.context() as patch:
        patch.setattr(rl_stage, "train", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(config(), context(tmp_path / "cut", start))
    source, target = whole.directory / "rollouts" / "00000", tmp_path / "cut" / "rollouts" / "00000"
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    judged_by(lambda problem, text: Outcome.TIMEOUT)
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            rl_stage.RlLoop, "logged", lambda self, update, metrics: seen.append(self._rollouts) or _interrupt()
        )
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(config(), context(tmp_path / "cut", start))
    assert seen[0].statistics()["reward"] == log(whole.directory)[0]["reward"]


def _interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("stopping")
def test_undecided_samples_leave_their_group(tmp_path: Path, start: Path, judged_by: Any) -> None:
    """In training every sample of one family is undecided; its groups are too small and others take their places."""
    calls = [0]

    def rule(problem: Problem, text: str) -> bool | Outcome:
        calls[0] += 1
        if problem.family == "sort" and calls[0] > 24 * 8:
            return Outcome.UNVERIFIABLE
        return low_first(problem, text)

    judged_by(rule)
    ctx = context(tmp_path / "r", start)
    rl_stage.run(config(max_refills=4), ctx)
    lines = log(ctx.directory)
    assert sum(line["groups_too_small"] for line in lines) > 0
    assert sum(line["undecided"] for line in lines) == 4 * sum(line["groups_too_small"] for line in lines)
    assert sum(line["groups_refilled"] for line in lines) > 0


@pytest.mark.usefixtures("stopping")
def test_a_step_without_informative_groups_moves_no_weight(tmp_path: Path, start: Path, judged_by: Any) -> None:
    calls = [0]

    def rule(problem: Problem, text: str) -> bool:
        calls[0] += 1
        return low_first(problem, text) if calls[0] <= 24 * 8 else False

    judged_by(rule)
    ctx = context(tmp_path / "r", start)
    rl_stage.run(config(steps=2), ctx)
    lines = log(ctx.directory)
    assert [line["lr"] for line in lines] == [0.0, 0.0]
    assert all(line["groups"] == 0 and line["groups_missing"] == 3 for line in lines)
    assert ctx.counts["training"]["updates_without_group"] == 2
    assert (ctx.directory / "model/model.safetensors").read_bytes() == (start / "model.safetensors").read_bytes()


def test_what_is_cut_off_counts_in_the_mean_alone(tmp_path: Path, start: Path, judged_by: Any) -> None:
    """Without stop tokens most samples are cut off: they lower the reward and leave the loss."""
    judged_by(low_first)
    ctx = context(tmp_path / "r", start)
    rl_stage.run(config(steps=1), ctx)
    (line,) = log(ctx.directory)
    assert line["truncated_fraction"] > 0.5
    assert line["loss_tokens"] < 0.5 * line["mean_length"] * line["samples"]


def test_a_model_that_never_ends_stops_the_stage_at_once(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: with max_new_tokens too small every sample is cut off and scores 0, which took hours to see."""
    monkeypatch.setattr(Renderer, "stop_ids", frozenset())
    with pytest.raises(UserError, match=r"problems\.puzzles: all 192 samples were cut off by max_new_tokens 4;"):
        rl_stage.run(config(), context(tmp_path / "band", start))


def test_the_first_step_is_looked_at_too(
    tmp_path: Path, start: Path, judged_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5, where the band was measured before."""
    judged_by(low_first)
    with monkeypatch.context() as patch:
        stop_at_every_token(patch)
        patch.setattr(rl_stage, "train", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(config(prompts_per_step=8, samples_per_prompt=8), context(tmp_path / "r", start))
    monkeypatch.setattr(Renderer, "stop_ids", frozenset())
    with pytest.raises(UserError, match=r"stages\.rl: first step: all \d+ samples were cut off"):
        rl_stage.run(config(prompts_per_step=8, samples_per_prompt=8), context(tmp_path / "r", start))
