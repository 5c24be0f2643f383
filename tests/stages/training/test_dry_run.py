"""The dry-run step changes nothing but the logs, and turns a lack of memory into advice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thinkling.data.packing import PackedBatch
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.stages.base import StageContext
from thinkling.stages.training.callbacks import LOG
from thinkling.stages.training.dry_run import DryRun, dry_run, random_batch, wanted
from thinkling.stages.training.fitting import StageMemory
from thinkling.stages.training.memory import GIB, Batch, Training
from thinkling.stages.training.objective import next_token_objective
from thinkling.stages.training.plan import TrainingPlan, train
from thinkling.train.config import OptimizerConfig, PrecisionConfig, SpikesConfig
from thinkling.train.parallel import Parallel
from thinkling.train.spikes import SpikeGuard
from thinkling.train.trainer import Objective, Trainer

SHAPE = ModelConfig(
    vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8,
)  # fmt: skip
BATCH = Batch(2, 16, micro_batches=2)
CPU = torch.device("cpu")


def model() -> Decoder:
    made = Decoder(SHAPE)
    made.init_weights(torch.Generator().manual_seed(0))
    return made


def batches(step: int) -> list[PackedBatch]:
    rng = np.random.default_rng(step)
    tokens = rng.integers(0, 300, (2, 2, 16))
    return [PackedBatch(t, np.roll(t, -1, 1), ((10, 6), (16,))) for t in tokens]


def run(directory: Path, dry: bool | None, objective: Objective | None = None, training: Training | None = None) -> Any:
    directory.mkdir()
    train_bpe(["abc abc abd " * 50], 268).save(directory / "tokenizer")
    plan = TrainingPlan(
        model=model(),
        optimizer=OptimizerConfig(lr=1e-2),
        batches=batches,
        learning_rate=lambda step: 1e-2,
        total_steps=4,
        tokens_per_step=lambda step: 64,
        tokenizer_dir=directory / "tokenizer",
        checkpoint_every=2,
        objective=objective,
        spikes=SpikesConfig(window=2),
        keep={},
        memory=StageMemory((training or Training(SHAPE, BATCH, on_gpu=False),)),
        dry_run_step=dry,
    )
    out = directory / "out"
    out.mkdir()
    train(plan, StageContext(name="sft", directory=out, inputs={}, seed=0), Parallel())
    return out


def test_every_byte_of_the_result_is_the_same(tmp_path: Path) -> None:
    found, states = [], []
    for name, dry in (("without", False), ("with", True)):
        torch.manual_seed(0)
        found.append(_content(run(tmp_path / name, dry)))
        states.append(torch.random.get_rng_state())
    assert found[0] == found[1]
    assert torch.equal(states[0], states[1])
    assert "model/model.safetensors" in found[0]


def _content(directory: Path) -> Mapping[str, bytes]:
    files = [file for file in directory.rglob("*") if file.is_file() and file.name != LOG]
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def test_the_log_has_the_dry_run(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run(tmp_path / "a", True) / LOG).read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["dry_run_seconds"] > 0
    assert lines[0]["predicted_peak_bytes"] > 0
    assert lines[0]["peak_bytes"] is None
    assert sum("dry_run_seconds" in line for line in lines) == 1
    assert "dry_run_seconds" not in (run(tmp_path / "b", None) / LOG).read_text()


@pytest.mark.parametrize("precision", [PrecisionConfig(), PrecisionConfig(compute="bfloat16", weights="bfloat16")])
def test_the_trainer_is_unchanged(precision: PrecisionConfig) -> None:
    trainer = Trainer(model(), OptimizerConfig(lr=1e-2), next_token_objective(CPU), precision=precision)
    trainer.guard = SpikeGuard(SpikesConfig(window=2))
    trainer.step(batches(0), 1e-2)
    before = {name: value.clone() for name, value in trainer.state_tensors().items()}
    trainer.dry_run(batches(1))
    after = trainer.state_tensors()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("guard"))
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_device_update_of_a_dry_run_changes_nothing() -> None:
    """On a GPU, the update runs on the device and is not usable; the same code is called here on a CPU."""
    precision = PrecisionConfig(compute="bfloat16", weights="bfloat16")
    trainer = Trainer(model(), OptimizerConfig(lr=1e-2), next_token_objective(CPU), precision=precision)
    trainer.step(batches(0), 1e-2)
    before = {name: value.clone() for name, value in trainer.state_tensors().items()}
    type(trainer.optimizer).waits_for_host, kept = property(lambda _: False), type(trainer.optimizer).waits_for_host
    try:
        trainer.dry_run(batches(1))
    finally:
        type(trainer.optimizer).waits_for_host = kept
    assert all(torch.equal(before[name], value) for name, value in trainer.state_tensors().items())


def test_the_first_shape_and_the_largest_shape_are_run() -> None:
    seen: list[tuple[int, ...]] = []

    def objective(model: nn.Module, batch: PackedBatch) -> Any:
        seen.append(batch.tokens_BT.shape)
        return next_token_objective(CPU)(model, batch)

    trainer = Trainer(model(), OptimizerConfig(lr=1e-2), objective)
    dry_run(trainer, [Batch(2, 8), Batch(2, 16, micro_batches=5), Batch(1, 16)], 300)
    assert seen == [(2, 8), (2, 16), (2, 16)]  # two micro-batches are enough to have sums of gradients
    seen.clear()
    dry_run(trainer, [Batch(2, 8)], 300)
    assert seen == [(2, 8)]


def test_random_batches_are_full_rows() -> None:
    batch = random_batch(Batch(3, 10), 2, 50)
    assert batch.lengths == ((5, 5),) * 3
    assert batch.n_loss_tokens == 3 * 8
    assert batch.tokens_BT.max() < 50
    assert np.array_equal(batch.tokens_BT, random_batch(Batch(3, 10), 1, 50).tokens_BT)


def test_only_a_gpu_has_a_dry_run_by_default() -> None:
    assert [wanted(None, torch.device(name)) for name in ("cpu", "cuda")] == [False, True]
    assert [wanted(asked, CPU) for asked in (True, False)] == [True, False]


def test_lines() -> None:
    assert DryRun(12.34, None, 55 * GIB, 80 * GIB).line() == "dry-run step: 12.3 s, peak 55.0 GiB of 80.0"
    assert DryRun(1.0, GIB / 2, None, None).line() == "dry-run step: 1.0 s, predicted peak 0.50 GiB"


def test_out_of_memory_names_what_to_change(tmp_path: Path) -> None:
    def objective(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, int, Mapping[str, float]]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    training = Training(SHAPE, Batch(8, 4096), PrecisionConfig(compute="bfloat16"))
    with pytest.raises(UserError, match="not enough memory") as error:
        run(tmp_path / "a", True, objective, training)
    message = str(error.value)
    assert message.startswith("stages.sft: the GPU has not enough memory; predicted peak of a step: ")
    assert "use recompute: selective (" in message
    assert "micro_batch_size: 4 (" in message
