"""TensorBoard and Weights & Biases hold what metrics.jsonl holds, also over a kill, and never enter an artifact."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from thinkling import plugins
from thinkling.errors import UserError
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run
from thinkling.stages.base import StageContext
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.training.config import TRACKERS, TrackersConfig
from thinkling.stages.training.trackers import TensorBoard, Tracker, Wandb, check_installed, make_trackers, scalars
from thinkling.train.callback import StepMetrics

RECIPES = Path(__file__).parents[3] / "recipes"
needs_tensorboard, needs_wandb = (
    pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed: pip install 'thinkling[track]'"
    )
    for name in ("tensorboard", "wandb")
)


def metrics(loss: float) -> StepMetrics:
    return StepMetrics(loss=loss, grad_norm=0.5, n_tokens=7, metrics={})


def logged(step: int, found: StepMetrics) -> dict[str, Any]:
    return {"loss_tokens": found.n_tokens, "phase": "warm", "rows": {"a": 3, "b": 1}, "reward": None}


def context(tmp_path: Path, **trackers: Any) -> StageContext:
    directory = tmp_path / "run" / "sft-01234567.partial"
    directory.mkdir(parents=True, exist_ok=True)
    config = TrackersConfig.model_validate(trackers)
    return StageContext(name="sft", directory=directory, inputs={}, seed=0, trackers=config)


def test_scalars_are_the_numbers_of_a_line() -> None:
    line = {"step": 4, "loss": 2.0, "phase": "x", "reward": None, "rows": {"a": 3}}
    assert dict(scalars(line)) == {"loss": 2.0, "rows/a": 3}


@needs_tensorboard
def test_tensorboard_is_read_back_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def tracker() -> TensorBoard:
        [made] = make_trackers(context(tmp_path, tensorboard=True), lambda step: 100, logged, "tokens")
        assert isinstance(made, TensorBoard)
        return made

    first = tracker()
    first.on_start(0)
    for step in range(4):
        first.on_step(step, metrics(float(step)), 0.1)
        if step == 1:
            first.on_checkpoint(step, tmp_path / "step-00000002")
    first.on_end()
    again = tracker()
    again.on_start(2)
    for step in range(2, 4):
        again.on_step(step, metrics(10.0 + step), 0.1)
    again.on_validation(3, {"web": 2.5})
    again.on_end()

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "sft"))
    events.Reload()
    tags = {"loss", "lr", "grad_norm", "loss_tokens", "rows/a", "rows/b", "tokens_per_second"}
    assert set(events.Tags()["scalars"]) == tags | {"checkpoint", "validation/web"}
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0)]
    assert [(e.step, e.value) for e in events.Scalars("validation/web")] == [(3, 2.5)]
    assert [(e.step, e.value) for e in events.Scalars("checkpoint")] == [(1, 2.0)]
    assert all(e.value > 0 for e in events.Scalars("tokens_per_second"))


@needs_wandb
def test_wandb_offline_writes_a_run_folder_and_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    ctx = context(tmp_path, wandb={"project": "p", "mode": "offline"})
    for _ in range(2):
        [made] = make_trackers(ctx, lambda step: 100, logged, "tokens")
        assert isinstance(made, Wandb)
        made.on_start(0)
        made.on_step(0, metrics(1.0), 0.1)
        made.on_end()
    folder = tmp_path / "run" / "wandb"
    [file] = folder.glob("*.id")
    runs = list(folder.glob(f"offline-run-*-{file.read_text()}"))
    assert runs
    assert all(list(run.glob("*.wandb")) for run in runs)
    assert file.name == "sft-01234567.id"
    assert list(ctx.directory.iterdir()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    config = TrackersConfig.model_validate({name: True if name == "tensorboard" else {"project": "p"}})
    with pytest.raises(UserError) as caught:
        check_installed(config)
    assert str(caught.value) == f"trackers.{name}: package {name} is not installed; run pip install 'thinkling[track]'"
    check_installed(TrackersConfig())


class Lines(Tracker):
    """A package's own: a line per call in a file of its folder."""

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        if "file" not in settings:
            raise UserError("file is missing")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        folder = self.ctx.directory.parent / "lines"
        folder.mkdir(exist_ok=True)
        with (folder / self.settings["file"]).open("a") as file:
            file.write(f"{step} {','.join(values)}\n")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package with two entry points were installed."""
    points = [
        EntryPoint(name, f"{__name__}:{kind}", TRACKERS.group) for name, kind in (("lines", "Lines"), ("no", "metrics"))
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    fresh = plugins.Registry(TRACKERS.what, TRACKERS.group, TRACKERS.built_in)
    for module in ("config", "trackers"):
        monkeypatch.setattr(f"thinkling.stages.training.{module}.TRACKERS", fresh)


def test_a_tracker_of_a_package_receives_what_the_others_do(tmp_path: Path, added: None) -> None:
    ctx = context(tmp_path, lines={"file": "a.txt"})
    assert ctx.trackers is not None
    check_installed(ctx.trackers)
    [made] = make_trackers(ctx, lambda step: 100, logged, "tokens")
    made.on_start(0)
    made.on_step(0, metrics(1.0), 0.1)
    made.on_validation(0, {"web": 2.5})
    made.on_end()
    found = (tmp_path / "run" / "lines" / "a.txt").read_text().splitlines()
    assert found == ["0 loss,lr,grad_norm,loss_tokens,rows/a,rows/b,tokens_per_second", "0 validation/web"]


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        ({"line": {}}, "unknown tracker 'line'; known trackers are tensorboard, wandb, lines, no; a package can add"),
        ({"lines": None}, "should be a valid dictionary"),
        ({"lines": {}}, r"^trackers\.lines: file is missing$"),
        (
            {"no": {}},
            r"^trackers\.no: its entry point is <function metrics .*>, not a subclass of Tracker; fix the package$",
        ),
    ],
)
def test_a_mistake_in_trackers_is_told_before_anything_runs(added: None, trackers: Any, message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        check_installed(TrackersConfig.model_validate(trackers))


def test_trackers_never_enter_a_hash(tmp_path: Path) -> None:
    plain = load_recipe(RECIPES / "nano.yaml")
    tracked = load_recipe(RECIPES / "nano.yaml", ["trackers={tensorboard: true, wandb: {project: p, mode: offline}}"])
    assert tracked.trackers.wandb is not None
    for name in plain.stages:
        resolved = Run(tracked, tmp_path).resolved(name)
        assert resolved == Run(plain, tmp_path).resolved(name)
        assert "wandb" not in json.dumps(resolved)


def test_threads_are_hashed_where_bits_depend_on_them(tmp_path: Path) -> None:
    one, two = (Run(load_recipe(RECIPES / "nano.yaml", [f"threads={n}"]), tmp_path) for n in (1, 2))
    same = {name for name in one.recipe.stages if one.resolved(name) == two.resolved(name)}
    assert same == {"tokenize"}
    # nano's curate grades, which fits linear models: measured, its labeller differs by threads.
    ungraded = {"kind": "curate", "sources": ["a"], "quality": {"a": "hq"}}
    assert not CurateConfig.model_validate(ungraded).depends_on_threads
