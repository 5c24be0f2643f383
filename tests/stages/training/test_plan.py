"""The loop that pretrain and sft share: logs cut where a resumed run goes on, and the end of training."""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinkling.data.artifact import Artifact, content_files
from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained
from thinkling.progress import Silent
from thinkling.stages.base import StageContext
from thinkling.stages.training import plan as training
from thinkling.stages.training.callbacks import METRICS, StepLog, Validation, count_and_means
from thinkling.stages.training.objective import mean_loss, next_token_objective
from thinkling.stages.training.plan import TrainingPlan
from thinkling.stages.training.state import read_kept
from thinkling.train import checkpoint
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.config import OptimizerConfig, SpikesConfig
from thinkling.train.parallel import Parallel

SHAPE = ModelConfig(
    vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8,
)  # fmt: skip


def model() -> Decoder:
    made = Decoder(SHAPE)
    made.init_weights(torch.Generator().manual_seed(0))
    return made


def batch(step: int) -> PackedBatch:
    rng = np.random.default_rng(step)
    items = [(rng.integers(0, 300, n).astype(np.int32), np.ones(n, dtype=bool)) for n in (9, 14, 5)]
    return pack_conversations(items, 16)


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    train_bpe(["abc abc abd " * 50], 268).save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def context(directory: Path) -> StageContext:
    directory.mkdir(exist_ok=True)
    return StageContext(name="t", directory=directory, inputs={}, seed=0)


def plan(tokenizer_dir: Path, batches: Any, steps: int, **more: Any) -> TrainingPlan:
    return TrainingPlan(
        model=model(),
        optimizer=OptimizerConfig(name="adamw", lr=1e-2),
        batches=batches,
        learning_rate=lambda step: 1e-2,
        total_steps=steps,
        tokens_per_step=lambda step: 32,
        tokenizer_dir=tokenizer_dir,
        checkpoint_every=4,
        **more,
    )


def train(directory: Path, tokenizer_dir: Path, until: int | None = None, steps: int = 9) -> None:
    """Trains; with `until`, dies before that step."""

    def batches(step: int) -> list[PackedBatch]:
        if step == until:
            raise KeyboardInterrupt
        return [batch(step)]

    training.train(plan(tokenizer_dir, batches, steps), context(directory), Parallel())


def lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / METRICS).read_text().splitlines()]


def test_cut_off_and_resumed_equals_uninterrupted(tmp_path: Path, tokenizer_dir: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, tokenizer_dir)
    with pytest.raises(KeyboardInterrupt):
        train(cut, tokenizer_dir, until=7)
    assert len(lines(cut)) == 7
    train(cut, tokenizer_dir)
    assert lines(cut) == lines(whole)
    assert [line["step"] for line in lines(cut)] == list(range(9))
    for name in ("model/model.safetensors", "model/config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not list(cut.glob("checkpoints*"))


def test_async_checkpoints_seal_the_log_as_of_their_step(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.jsonl grows while the checkpoint of step 4 is written. Its seal covers 4 lines, its other files are
    there, and the run that resumes from it equals an uninterrupted one without async checkpoints."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, tokenizer_dir)
    written, write = threading.Event(), checkpoint._write

    def slowly(*args: Any) -> None:
        assert written.wait(60)
        write(*args)

    def batches(step: int) -> list[PackedBatch]:
        if step == 7:
            assert not (cut / "checkpoints" / "step-00000004").exists()
            assert len(lines(cut)) == 7
            written.set()
            raise KeyboardInterrupt
        return [batch(step)]

    monkeypatch.setattr(checkpoint, "_write", slowly)
    made = plan(tokenizer_dir, batches, 9, async_checkpoints=True, prefetch=0)
    with pytest.raises(KeyboardInterrupt):
        training.train(made, context(cut), Parallel())
    found = cut / "checkpoints" / "step-00000004"
    assert {".metrics.jsonl.seal", "config.json", ".config.json.seal", "state.json"} <= {
        p.name for p in found.iterdir()
    }
    head = "".join((cut / METRICS).read_text().splitlines(keepends=True)[:4]).encode()
    assert json.loads((found / ".metrics.jsonl.seal").read_text())["bytes"] == len(head)
    log = [json.loads(line) for line in (cut / "train.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2, 3, 4, 5, 6, 3]
    assert log[-1]["checkpoint"] == "step-00000004"
    assert log[-1]["blocked_seconds"] < log[-1]["write_seconds"]

    training.train(plan(tokenizer_dir, lambda s: [batch(s)], 9, async_checkpoints=True), context(cut), Parallel())
    assert lines(cut) == lines(whole)
    files = [name for name in content_files(whole) if not name.endswith(".log.jsonl")]
    assert [name for name in content_files(cut) if not name.endswith(".log.jsonl")] == files
    assert all((cut / name).read_bytes() == (whole / name).read_bytes() for name in files)


def test_a_run_killed_after_training_does_not_train_again(tmp_path: Path, tokenizer_dir: Path) -> None:
    train(tmp_path / "r", tokenizer_dir)
    weights = tmp_path / "r" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    train(tmp_path / "r", tokenizer_dir, until=0)
    assert weights.stat().st_mtime_ns == before
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_a_run_killed_while_checkpoints_were_deleted_was_called_damaged(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(directory: Path, ignore_errors: bool = False) -> None:
        if directory.name == "checkpoints":
            whole = next(directory.rglob(f".{METRICS}.seal"))
            next(path for path in whole.parent.iterdir() if path != whole).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(training.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "r", tokenizer_dir)
    monkeypatch.undo()
    weights = tmp_path / "r" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    train(tmp_path / "r", tokenizer_dir, until=0)
    assert weights.stat().st_mtime_ns == before
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_training_lowers_the_loss_and_exports_it(tmp_path: Path, tokenizer_dir: Path) -> None:
    once = plan(tokenizer_dir, lambda step: [batch(0)], 30)
    training.train(once, context(tmp_path / "r"), Parallel())
    losses = [line["loss"] for line in lines(tmp_path / "r")]
    assert losses[-1] < 0.5 * losses[0]
    trained = load_pretrained(tmp_path / "r" / "model")
    assert mean_loss(trained, [batch(0)], torch.device("cpu")) <= losses[-1]


def test_mean_loss_is_the_mean_over_tokens(tmp_path: Path) -> None:
    made, objective = model(), next_token_objective(torch.device("cpu"))
    parts = [objective(made, batch(i))[:2] for i in range(3)]
    expected = sum(float(loss.detach()) for loss, _ in parts) / sum(n for _, n in parts)
    assert mean_loss(made, [batch(i) for i in range(3)], torch.device("cpu")) == pytest.approx(expected)


def test_log_drops_half_a_line(tmp_path: Path) -> None:
    metrics = StepMetrics(loss=1.0, grad_norm=1.0, n_tokens=1, metrics={})
    log = StepLog(tmp_path, lambda step: 1)
    log.on_start(0)
    log.on_step(0, metrics, 0.1)
    log.on_end()
    with (tmp_path / METRICS).open("a") as stream:
        stream.write('{"step": 1, "lo')
    again = StepLog(tmp_path, lambda step: 1)
    again.on_start(1)
    again.on_step(1, metrics, 0.1)
    again.on_end()
    assert [line["step"] for line in lines(tmp_path)] == [0, 1]


def test_train_log_notes_speed_validation_and_checkpoints(tmp_path: Path, tokenizer_dir: Path) -> None:
    heard: list[tuple[int, dict[str, float]]] = []

    class Listener(Callback):
        def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
            heard.append((step, dict(losses)))

    validation = Validation(due=lambda step: step == 5, losses=lambda trained: {"web": 2.5})
    made = plan(tokenizer_dir, lambda step: [batch(step)], 6, validation=validation, callbacks=[Listener()])
    training.train(made, context(tmp_path / "r"), Parallel())
    assert heard == [(5, {"web": 2.5})]
    log = [json.loads(line) for line in (tmp_path / "r" / "train.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "tokens_per_second" in line] == list(range(6))
    assert [(line["step"], line["validation"]) for line in log if "validation" in line] == heard
    checkpoints = [line for line in log if "checkpoint" in line]
    assert [(line["step"], line["checkpoint"]) for line in checkpoints] == [(3, "step-00000004"), (5, "step-00000006")]
    assert all(line["bytes"] > 4 * model().config.parameter_count() for line in checkpoints)


def test_keep_state_keeps_the_optimizer_too(tmp_path: Path, tokenizer_dir: Path) -> None:
    """F10: the state of a finished run was deleted. Two halves over a kept state equal one run."""
    whole, first, second = (context(tmp_path / name) for name in ("whole", "first", "second"))
    batches = lambda step: [batch(step)]  # noqa: E731
    training.train(plan(tokenizer_dir, batches, 9), whole, Parallel())
    assert not (whole.directory / "state").exists()
    training.train(plan(tokenizer_dir, batches, 5, keep={"seed": 3}), first, Parallel())
    kept = read_kept(Artifact(first.directory, {}))
    assert (kept.steps, kept.facts) == (5, {"seed": 3})
    training.train(plan(tokenizer_dir, batches, 9, start=kept, first_step=5), second, Parallel())
    weights = "model/model.safetensors"
    assert (second.directory / weights).read_bytes() == (whole.directory / weights).read_bytes()
    assert lines(second.directory) == lines(whole.directory)[5:]
    with pytest.raises(UserError, match="has no file state"):
        read_kept(Artifact(whole.directory, {}))


def test_a_killed_run_keeps_the_same_state(tmp_path: Path, tokenizer_dir: Path) -> None:
    def batches(step: int) -> list[PackedBatch]:
        if step == until:
            raise KeyboardInterrupt
        return [batch(step)]

    until: int | None = None
    whole, cut = context(tmp_path / "whole"), context(tmp_path / "cut")
    training.train(plan(tokenizer_dir, batches, 9, keep={}), whole, Parallel())
    until = 6
    with pytest.raises(KeyboardInterrupt):
        training.train(plan(tokenizer_dir, batches, 9, keep={}), cut, Parallel())
    until = None
    torch.rand(3)
    training.train(plan(tokenizer_dir, batches, 9, keep={}), cut, Parallel())
    names = list(content_files(whole.directory))
    assert list(content_files(cut.directory)) == names
    assert all((cut.directory / n).read_bytes() == (whole.directory / n).read_bytes() for n in names)


def test_z_loss_is_logged_per_token_and_not_validated(tmp_path: Path, tokenizer_dir: Path) -> None:
    device, seen = torch.device("cpu"), []
    start = mean_loss(model(), [batch(0)], device)
    for folder, z_weight in (("plain", 0.0), ("z", 0.01)):
        validation = Validation(lambda step: True, lambda made: {"text": mean_loss(made, [batch(0)], device)})
        training.train(
            plan(
                tokenizer_dir, lambda step: [batch(step)], 5, objective=next_token_objective(device, z_weight),
                logged=count_and_means, validation=validation,
            ),
            context(tmp_path / folder),
            Parallel(),
        )  # fmt: skip
        seen.append(lines(tmp_path / folder))
    plain, z = seen
    assert plain[0].keys() == z[0].keys() - {"z_loss"}
    assert z[0]["loss"] - z[0]["z_loss"] == pytest.approx(plain[0]["loss"]) == pytest.approx(start)
    assert z[0]["z_loss"] == pytest.approx(0.01 * np.log(300) ** 2, rel=0.05)  # the logits are near 0 at the start
    assert z[4]["loss"] != plain[4]["loss"]


def test_skipped_steps_are_logged_and_counted(tmp_path: Path, tokenizer_dir: Path) -> None:
    """Also after a kill, and by a run that finds training done. Numbers that are not finite are null."""

    class Told(Silent):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, text: str) -> None:
            self.warnings.append(text)

    def objective(made: Any, found: tuple[float, PackedBatch]) -> Any:
        loss, n, metrics = next_token_objective(torch.device("cpu"))(made, found[1])
        return loss * found[0], n, metrics

    def go(directory: Path, until: int | None = None) -> StageContext:
        def batches(step: int) -> list[Any]:
            if step == until:
                raise KeyboardInterrupt
            return [({5: 30.0, 7: float("nan")}.get(step, 1.0), batch(step))]

        ctx = replace(context(directory), progress=Told())
        spikes = SpikesConfig(factor=5.0, window=3)
        training.train(plan(tokenizer_dir, batches, 9, objective=objective, spikes=spikes), ctx, Parallel())
        return ctx

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", until=8)
    resumed, finished = go(tmp_path / "cut"), go(tmp_path / "cut")
    assert [ctx.counts for ctx in (whole, resumed, finished)] == [{"skipped_steps": 2}] * 3
    assert [line["skipped"] for line in lines(tmp_path / "whole")] == [0, 0, 0, 0, 0, 1, 0, 1, 0]
    assert lines(tmp_path / "whole")[7]["loss"] is None
    for name in (METRICS, "model/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert isinstance(whole.progress, Told)
    assert [text.split(" (")[0] for text in whole.progress.warnings] == [
        "t: step 5 is a spike and was skipped",
        "t: step 7 is a spike and was skipped",
    ]


def test_without_a_guard_a_line_of_the_log_has_no_new_column(tmp_path: Path, tokenizer_dir: Path) -> None:
    train(tmp_path / "r", tokenizer_dir, steps=1)
    assert list(lines(tmp_path / "r")[0]) == ["step", "loss", "lr", "grad_norm", "loss_tokens"]
