"""The loop that pretrain and sft share: logs cut where a resumed run goes on, and the end of training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained
from thinkling.progress import Silent
from thinkling.stages.base import StageContext
from thinkling.stages.training import METRICS, StepLog, mean_loss, next_token_objective, train_to_directory
from thinkling.train.config import OptimizerConfig
from thinkling.train.parallel import Parallel
from thinkling.train.trainer import StepMetrics

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


def train(directory: Path, tokenizer_dir: Path, until: int | None = None, steps: int = 9) -> None:
    """Trains; with `until`, dies before that step."""

    def batches(step: int) -> list[PackedBatch]:
        if step == until:
            raise KeyboardInterrupt
        return [batch(step)]

    train_to_directory(
        context(directory), model(), OptimizerConfig(name="adamw", lr=1e-2), batches, lambda step: 1e-2, steps, 4,
        Parallel(), lambda step: 32, tokenizer_dir, "t",
    )  # fmt: skip


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


def test_a_run_killed_after_training_does_not_train_again(tmp_path: Path, tokenizer_dir: Path) -> None:
    train(tmp_path / "r", tokenizer_dir)
    weights = tmp_path / "r" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (tmp_path / "r" / "checkpoints.done" / "step-00000009").mkdir(parents=True)
    train(tmp_path / "r", tokenizer_dir, until=0)
    assert weights.stat().st_mtime_ns == before
    assert not (tmp_path / "r" / "checkpoints.done").exists()


def test_training_lowers_the_loss_and_exports_it(tmp_path: Path, tokenizer_dir: Path) -> None:
    train_to_directory(
        context(tmp_path / "r"), model(), OptimizerConfig(name="adamw", lr=1e-2), lambda step: [batch(0)],
        lambda step: 1e-2, 30, 30, Parallel(), lambda step: 32, tokenizer_dir, "t",
    )  # fmt: skip
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
    with Silent().track("x", 1, "x") as task:
        log = StepLog(tmp_path, task, 0, lambda step: 1)
        log.open(0)
        log.write(0, metrics, 0.1)
        log.close()
        with (tmp_path / METRICS).open("a") as stream:
            stream.write('{"step": 1, "lo')
        again = StepLog(tmp_path, task, 0, lambda step: 1)
        again.open(1)
        again.write(1, metrics, 0.1)
        again.close()
    assert [line["step"] for line in lines(tmp_path)] == [0, 1]
