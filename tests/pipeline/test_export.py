"""`thinkling export`: a finished stage's model, a checkpoint of a killed one, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from tests.stages.training.test_evaluation import SCORES, evaluation, measured
from tests.stages.training.test_plan import batch, plan
from thinkling.cli import app
from thinkling.data.artifact import finish
from thinkling.data.chat_template import OURS
from thinkling.data.packing import PackedBatch
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.huggingface import load_pretrained
from thinkling.pipeline.export import export
from thinkling.stages.base import StageContext
from thinkling.stages.training import plan as training
from thinkling.train.parallel import Parallel

TOKENS = torch.arange(3, 60)[None]


def train(directory: Path, tokenizer_dir: Path, until: int | None = None, steps: int = 9) -> None:
    def batches(step: int) -> list[PackedBatch]:
        if step == until:
            raise KeyboardInterrupt
        return [batch(step)]

    directory.mkdir()
    ctx = StageContext("sft", directory, {}, 0)
    made = plan(tokenizer_dir, batches, steps, evaluation=evaluation(measured(SCORES)), prefetch=0)
    training.train(made, ctx, Parallel())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a finished stage, one that was killed in step 8, and one that has no model."""
    root = tmp_path_factory.mktemp("runs")
    train_bpe(["abc abc abd " * 50], 268, chat_template=OURS.source).save(root / "tokenizer")
    run = root / "runs" / "mine"
    run.mkdir(parents=True)
    train(run / "sft-00000001.partial", root / "tokenizer")
    finish(run / "sft-00000001.partial", run / "sft-00000001", {"kind": "model", "stage": "sft"}, {})
    with pytest.raises(KeyboardInterrupt):
        train(run / "rl-00000002.partial", root / "tokenizer", until=8)
    (run / "evaluate-00000003.partial").mkdir()
    finish(run / "evaluate-00000003.partial", run / "evaluate-00000003", {"kind": "scores"}, {})
    train(root / "after-6", root / "tokenizer", steps=6)
    return root / "runs"


def digest(directory: Path) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p).encode() + p.read_bytes() for p in files)).hexdigest()


@pytest.fixture
def untouched(runs: Path) -> Iterator[None]:
    before = digest(runs)
    yield
    assert digest(runs) == before, "the run was changed"


def logits(directory: Path) -> torch.Tensor:
    model = load_pretrained(directory)
    with torch.no_grad():
        return model.logits(model(TOKENS))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("stage", "step", "same_as", "name"),
    [
        ("sft", None, "runs/mine/sft-00000001/model", "mine-sft"),
        ("rl", "4", None, "mine-rl-step-4"),
        ("rl", "8", None, "mine-rl-step-8"),
        ("rl", "last", None, "mine-rl-step-8"),
        ("rl", "best", "after-6/model", "mine-rl-step-6"),
    ],
)
def test_transformers_loads_it_with_equal_logits(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: str | None, same_as: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _, written = export("mine", stage, step, None, runs)
    assert written == Path(name)
    assert {path.name for path in tmp_path.iterdir()} == {name}, "nothing else is left behind"
    ours = logits(written)
    peer = AutoModelForCausalLM.from_pretrained(written)
    with torch.no_grad():
        theirs = peer(input_ids=TOKENS).logits
    assert (theirs - ours).abs().max() <= 1e-5 * theirs.abs().max()
    if same_as:
        assert torch.equal(ours, logits(runs.parent / same_as))
    tokenizer = AutoTokenizer.from_pretrained(written)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "abc"}], tokenize=False)
    assert "abc" in shown
    assert (written / "generation_config.json").is_file()


@pytest.mark.parametrize("steps", [4, 8])
def test_a_checkpoint_has_the_weights_after_its_steps(runs: Path, tmp_path: Path, steps: int) -> None:
    """Training ended there: what it exports as its last step's model is the checkpoint."""
    export(str(runs / "mine"), "rl", str(steps), tmp_path / "one", runs)
    alone = tmp_path / "alone"
    made = plan(runs.parent / "tokenizer", lambda step: [batch(step)], steps)
    alone.mkdir()
    training.train(made, StageContext("sft", alone, {}, 0), Parallel())
    assert (tmp_path / "one/model.safetensors").read_bytes() == (alone / "model/model.safetensors").read_bytes()
    assert (tmp_path / "one/config.json").read_bytes() == (alone / "model/config.json").read_bytes()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("run", "stage", "step", "message"),
    [
        ("mien", "sft", None, r"mien: no such run; .* contains mine; did you mean 'mine'\?"),
        ("mine", "stf", None, r"no stage 'stf'; did you mean 'sft'\?; its stages are evaluate, rl, sft"),
        ("mine", "evaluate", None, "stage evaluate writes scores, not a model; choose a training stage"),
        ("mine", "rl", None, "stage rl has not finished, so it has no final model; available: 4, 8, last, best"),
        ("mine", "rl", "5", "--step 5: stage rl has no such checkpoint; available: 4, 8, last, best"),
        ("mine", "rl", "-4", "--step -4: stage rl has no such checkpoint"),
        ("mine", "sft", "4", "--step 4: stage sft has finished, and finished stages have no checkpoints"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    runs: Path, tmp_path: Path, run: str, stage: str, step: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export(run, stage, step, tmp_path / "x", runs)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("untouched")
def test_nothing_is_overwritten_and_nothing_put_into_the_run(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("full", "file"):
        with pytest.raises(UserError, match=f"--to .*{name}: it exists and is not an empty directory"):
            export("mine", "sft", None, tmp_path / name, runs)
    with pytest.raises(UserError, match="the path is inside the run"):
        export("mine", "sft", None, runs / "mine" / "x", runs)
    (tmp_path / "empty").mkdir()
    assert export("mine", "sft", None, tmp_path / "empty", runs)[1] == tmp_path / "empty"
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("gone", ["its configuration", "its weights", "half of its weights"])
def test_a_checkpoint_that_vanishes_meanwhile_is_one_line(runs: Path, tmp_path: Path, gone: str) -> None:
    """A run that goes on deletes its older checkpoints."""
    stage = "rl-00000002.partial"
    shutil.copytree(runs / "mine" / stage, tmp_path / "runs" / "r" / stage)
    checkpoint = tmp_path / "runs" / "r" / stage / "checkpoints" / "step-00000004"
    (weights,) = checkpoint.glob("*.safetensors")
    if gone == "its configuration":
        (checkpoint / "config.json").unlink()
    elif gone == "its weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(UserError, match=r"step-00000004.*cannot be read"):
        export("r", "rl", "4", tmp_path / "x", tmp_path / "runs")
    assert not (tmp_path / "x").exists()


def test_the_verb(runs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(runs / "mine"), "rl", "--step", "8", "--to", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "m") in done.output
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_a_newer_result_that_has_not_finished_is_pointed_out(runs: Path, tmp_path: Path) -> None:
    """After changed settings were killed half-way, the older model is exported: not without saying so."""
    shutil.copytree(runs / "mine", tmp_path / "r")
    newer = tmp_path / "r" / "sft-0000000f.partial"
    (tmp_path / "r" / "rl-00000002.partial").rename(newer)
    os.utime(newer, (2e9, 2e9))
    found, _ = export(str(tmp_path / "r"), "sft", None, tmp_path / "x", runs)
    assert found.origin.parent.name == "sft-00000001"
    assert found.note == "sft-0000000f.partial is newer but unfinished; --step exports one of its checkpoints"
    assert export(str(tmp_path / "r"), "sft", "8", tmp_path / "y", runs)[0].step == 8
