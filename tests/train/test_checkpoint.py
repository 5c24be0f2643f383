import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException

from thinkling.errors import UserError
from thinkling.train import checkpoint
from thinkling.train.callback import StepMetrics
from thinkling.train.checkpoint import Checkpoints, keep_state, read_state, read_weights
from thinkling.train.config import OptimizerConfig
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import Objective, Trainer, fit

Make = Callable[..., Any]


def tensors_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("name", "background"), [("adamw", False), ("muon", False), ("adamw", True)])
def test_resume_is_exact_to_the_bit(
    make_toy: Make,
    make_batch: Make,
    make_curve: Make,
    objective: Objective,
    tmp_path: Path,
    name: str,
    background: bool,
) -> None:
    """Weights, optimizer, every later step and the checkpoints themselves, random state included. Checkpoints that a
    thread writes in the resumed run equal those that the uninterrupted run writes itself."""
    config = OptimizerConfig.model_validate({"name": name})

    def run(directory: Path, total: int, seed: int) -> tuple[Trainer, dict[int, StepMetrics]]:
        curve = make_curve()
        trainer = Trainer(make_toy(seed=seed), config, objective)
        torch.manual_seed(0)
        checkpoints = Checkpoints(directory, every_steps=3, background=background and directory.name == "cut")
        fit(trainer, lambda s: [make_batch(s)], lambda s: 0.01, total, checkpoints, [curve])
        return trainer, curve.steps

    whole, curve = run(tmp_path / "whole", 12, seed=0)
    run(tmp_path / "cut", 6, seed=0)
    # The rest of the run starts from other weights and another random state; nothing of them may remain.
    resumed, rest = run(tmp_path / "cut", 12, seed=5)
    assert list(rest) == [6, 7, 8, 9, 10, 11]
    assert all(rest[step] == curve[step] for step in rest)
    assert tensors_equal(whole.state_tensors(), resumed.state_tensors())
    names = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["step-00000009", "step-00000012"]
    for name in names:
        one, other = (tmp_path / run / name for run in ("whole", "cut"))
        assert (one / "state.json").read_bytes() == (other / "state.json").read_bytes()
        [one], [other] = one.glob("*.safetensors"), other.glob("*.safetensors")
        assert one.read_bytes() == other.read_bytes()


def test_only_whole_checkpoints_count_and_two_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new", every_steps=1)
    assert checkpoints.latest() is None
    for step in (3, 99_999_999, 100_000_000):
        checkpoints.save(step, {"x": torch.full((2,), float(step))})
    assert sorted(p.name for p in checkpoints.directory.iterdir()) == ["step-100000000", "step-99999999"]
    (checkpoints.directory / "step-100000001.tmp").mkdir()
    (checkpoints.directory / "step-100000001.tmp" / "state.json").write_text("{")
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.name == "step-100000000"
    # The next save takes the place of what a killed process left behind.
    checkpoints.save(100_000_001, {"x": torch.ones(2)})
    assert sorted(p.name for p in checkpoints.directory.iterdir()) == ["step-100000000", "step-100000001"]


def test_values_extra_and_random_state_come_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_steps=1)
    state = {
        "scalar": torch.tensor(3.0),
        "half": torch.randn(3, 5).bfloat16(),
        "transposed": torch.randn(4, 2).T,
        "whole": torch.arange(5),
    }
    torch.manual_seed(11)
    path = checkpoints.save(7, state)
    drawn = torch.rand(3)
    assert [p.suffix for p in sorted(path.iterdir())] == [".safetensors", ".json"]

    places = {name: torch.zeros_like(value) for name, value in state.items()}
    torch.manual_seed(12)
    assert checkpoints.load(path, places) == 7
    assert tensors_equal(places, state)
    assert torch.equal(torch.rand(3), drawn)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_steps=1)
    path = checkpoints.save(1, {"a": torch.zeros(2), "b": torch.zeros(2)})
    with pytest.raises(UserError, match=r"shape of b is \(2,\) in the checkpoint and \(3,\) in this run"):
        checkpoints.load(path, {"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(UserError, match=r"shape of b is \(2,\) in the checkpoint and none in this run"):
        checkpoints.load(path, {"a": torch.zeros(2)})
    with pytest.raises(UserError, match=r"shape of c is none in the checkpoint and \(1,\) in this run"):
        checkpoints.load(path, {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(1)})
    state = json.loads((path / "state.json").read_text())
    del state["digest"]
    (path / "state.json").write_text(json.dumps(state | {"format": 0}))
    with pytest.raises(UserError, match=r"format 0, but this version of thinkling reads format \d; delete"):
        checkpoints.latest()


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [cut, flip, empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["state.json", "*.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_taken(
    tmp_path: Path, damage: Callable[[Path], None], pattern: str
) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, every_steps=1, warn=warnings.append)
    for step in (1, 2):
        checkpoints.save(step, {"x": torch.full((400,), float(step))})
    [file] = (tmp_path / "step-00000002").glob(pattern)
    damage(file)
    latest = checkpoints.latest()
    assert latest == tmp_path / "step-00000001"
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{file}: ")
    x = torch.zeros(400)
    assert checkpoints.load(latest, {"x": x}) == 1
    assert torch.equal(x, torch.ones(400))
    # The step is trained and saved again.
    checkpoints.save(2, {"x": x * 2})
    assert checkpoints.latest() == tmp_path / "step-00000002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_where_all_checkpoints_are_damaged_training_does_not_start_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_steps=1)
    for step in (1, 2):
        checkpoints.save(step, {"x": torch.ones(4)})
    for file in tmp_path.glob("*/*.safetensors"):
        flip(file)
    with pytest.raises(
        UserError, match=r"step-00000002/.*is corrupt, and no other checkpoint is intact; delete .* to start"
    ):
        checkpoints.latest()
    with pytest.raises(UserError, match="is corrupt; use a different checkpoint"):
        read_weights(tmp_path / "step-00000001")


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("function", ["rename", "fsync"])
def test_a_save_cut_short_anywhere_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, background: bool
) -> None:
    """The process dies at the n-th rename or flush, for each n: what it leaves loads, to the state before or after."""
    real = getattr(os, function)
    cuts = 0
    for n in range(20):
        directory = tmp_path / str(n)
        checkpoints = Checkpoints(directory, every_steps=1, background=background)
        for step in (1, 2):
            checkpoints.save(step, {"x": torch.full((4,), float(step))})
        checkpoints.wait()
        calls = iter(range(1000))

        def dies(*args: Any, calls: Any = calls, n: int = n) -> Any:
            if next(calls) == n:
                raise KeyboardInterrupt
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, function, dies)
            try:
                checkpoints.save(3, {"x": torch.full((4,), 3.0)})
                checkpoints.wait()
            except (KeyboardInterrupt, CheckpointException):
                cuts += 1
            else:
                break
        latest = Checkpoints(directory, every_steps=1).latest()
        assert latest is not None
        x = torch.zeros(4)
        step = checkpoints.load(latest, {"x": x})
        assert step in (2, 3)
        assert torch.equal(x, torch.full((4,), float(step)))
        checkpoints.save(step + 1, {"x": x})
        checkpoints.wait()
        assert len(list(directory.iterdir())) == 2
        shutil.rmtree(directory)
    assert cuts >= 2


class Held:
    """In place of a function: the call begins and ends when the test says so."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.begun, self.released = function, threading.Event(), threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.begun.set()
        assert self.released.wait(60)
        return self.function(*args)


def test_training_may_change_the_state_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is absent until it is complete, and then contains the state as of `save`, its other files too."""
    checkpoints = Checkpoints(tmp_path, every_steps=1, background=True)
    state = {"x": torch.ones(3, 2), "transposed": torch.ones(2, 3).T, "scalar": torch.tensor(1.0)}
    first = {name: value.clone() for name, value in state.items()}
    torch.manual_seed(1)
    for step in (1, 2):  # the second copy uses the buffers of the first
        with monkeypatch.context() as patch:
            held = Held(checkpoint._write)
            patch.setattr(checkpoint, "_write", held)
            path = checkpoints.save(step, state, add_files=lambda d: (d / "other").write_text("1"))
            assert held.begun.wait(60)
            for value in state.values():
                value += 1
            torch.manual_seed(2)
            assert not path.exists()
            assert checkpoints.finished() == []
            held.released.set()
            checkpoints.wait()
        [saved] = checkpoints.finished()
        assert (saved.steps, saved.path) == (step, path)
        assert (path / "other").read_text() == "1"
        assert sorted(json.loads((path / "state.json").read_text())["files"]) == [p.name for p in path.glob("*.safe*")]
        places = {name: torch.zeros_like(value) for name, value in state.items()}
        assert checkpoints.load(path, places) == step
        assert tensors_equal(places, {name: value + (step - 1) for name, value in first.items()})


def test_a_failed_write_in_the_background_is_an_error_of_training(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next save, or earlier, or at the end of training. The last checkpoint is intact."""

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    def run(total: int) -> None:
        checkpoints = Checkpoints(tmp_path, every_steps=2, background=True)
        trainer = Trainer(make_toy(), OptimizerConfig(), objective)
        fit(trainer, lambda s: [make_batch(s)], lambda s: 0.01, total, checkpoints)

    run(2)
    for total in (4, 100):  # the end of training, or a step before it
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "_write", full)
            with pytest.raises(OSError, match="No space left"):
                run(total)
        latest = Checkpoints(tmp_path, every_steps=2).latest()
        assert latest is not None
        assert latest.name == "step-00000002"
    run(4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000004"]


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, every_steps=1, background=True)
    events: list[str] = []

    def write(step: int, *args: Any) -> None:
        events.append(f"begins {step}")
        time.sleep(0.05)
        events.append(f"ends {step}")

    monkeypatch.setattr(checkpoints, "_complete", write)
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": torch.ones(1)})
        (tmp_path / f"step-{step:08d}.tmp").rename(tmp_path / f"gone-{step}")
    checkpoints.close()
    assert events == [f"{what} {step}" for step in (1, 2, 3) for what in ("begins", "ends")]
    assert [saved.steps for saved in checkpoints.finished()] == [1, 2, 3]


def test_equal_states_are_kept_in_equal_bytes(tmp_path: Path) -> None:
    """safetensors writes the metadata of a header in an order of chance; random state depends on the process."""
    state = {f"layer.{i}.weight": torch.full((3, 2), float(i)) for i in range(20)} | {"step": torch.tensor(4.0)}
    for name in ("one", "other"):
        torch.rand(1)
        keep_state(tmp_path / name, state, Parallel())
    [one], [other] = ((tmp_path / name).glob("*.safetensors") for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    places = {name: torch.zeros_like(value) for name, value in state.items()}
    read_state(tmp_path / "one", places, Parallel())
    assert tensors_equal(places, state)
    assert load_file(one).keys() == state.keys()
