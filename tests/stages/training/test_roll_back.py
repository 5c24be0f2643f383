"""After a spike, training returns to the last checkpoint and skips the batches that led to the spike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.progress import Silent
from thinkling.stages.base import StageContext
from thinkling.stages.training import plan as training
from thinkling.stages.training.callbacks import METRICS
from thinkling.stages.training.objective import next_token_objective
from thinkling.stages.training.plan import TrainingPlan
from thinkling.stages.training.roll_back import FILE, RollBack, Spike
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.config import OptimizerConfig, SpikesConfig
from thinkling.train.parallel import Parallel

SHAPE = ModelConfig(
    vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8,
)  # fmt: skip
SPIKES = SpikesConfig(action="roll_back", factor=5.0, window=3, limit=2)
STEPS, EVERY = 16, 4
BAD = {3: 60.0, 6: 60.0, 13: float("nan"), 14: 60.0}
"""Step → factor of its loss. Step 3 is before the first checkpoint."""
SKIPPED = [3, 4, 5, 6, 12, 13, 14]


class Warned(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def batch(step: int) -> PackedBatch:
    rng = np.random.default_rng(step)
    return pack_conversations([(rng.integers(0, 300, n).astype(np.int32), np.ones(n, dtype=bool)) for n in (9, 14)], 16)


def objective(made: Any, found: tuple[float, PackedBatch]) -> Any:
    loss, n, metrics = next_token_objective(torch.device("cpu"))(made, found[1])
    return loss * found[0], n, metrics


class Dies(Callback):
    """Kills the run at the n-th call, of all calls before a step."""

    def __init__(self, at: int | None) -> None:
        self.left = at

    def before_step(self, step: int) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


Go = Callable[..., StageContext]


@pytest.fixture
def go(tmp_path: Path) -> Go:
    train_bpe(["abc abc abd " * 50], 268).save(tmp_path / "tokenizer")

    def run(folder: str, dies_at: int | None = None, bad: dict[int, float] | None = None, **more: Any) -> StageContext:
        factors = BAD if bad is None else bad
        fields: dict[str, Any] = {"batches": lambda step: [(factors.get(step, 1.0), batch(step))], "spikes": SPIKES}
        model = Decoder(SHAPE)
        model.init_weights(torch.Generator().manual_seed(0))
        made = TrainingPlan(
            model=model,
            optimizer=OptimizerConfig(lr=1e-2),
            learning_rate=lambda step: 1e-2 / (1 + step),
            total_steps=STEPS,
            tokens_per_step=lambda step: 32,
            tokenizer_dir=tmp_path / "tokenizer",
            checkpoint_every=EVERY,
            objective=objective,
            callbacks=[Dies(dies_at)],
            keep={},
            **fields | more,
        )
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        ctx = StageContext(name="t", directory=directory, inputs={}, seed=0, progress=Warned())
        training.train(made, ctx, Parallel())
        return ctx

    return run


def lines(ctx: StageContext) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ctx.directory / METRICS).read_text().splitlines()]


def test_the_result_is_training_without_the_batches_before_the_spikes(go: Go) -> None:
    """Steps 13 and 14 are spikes one after the other, so training returns to step 12 twice."""
    rolled = go("rolled")
    assert [line["step"] for line in lines(rolled)] == list(range(STEPS))
    assert [line["step"] for line in lines(rolled) if line["skipped"]] == SKIPPED
    assert lines(rolled)[4] | {"loss_tokens": 0} == {
        "step": 4, "loss": None, "lr": 0.0, "grad_norm": None, "skipped": 1, "loss_tokens": 0
    }  # fmt: skip
    assert json.loads((rolled.directory / FILE).read_text())["ranges"] == [[4, 6], [12, 13], [12, 14]]
    assert rolled.counts == {"skipped_steps": len(SKIPPED)}
    assert isinstance(rolled.progress, Warned)
    assert [text.split(" (")[0] for text in rolled.progress.warnings] == [
        "t: step 3 is a spike and was skipped", *(f"t: step {step} is a spike" for step in (6, 13, 14))
    ]  # fmt: skip

    plain = go("plain", spikes=None, batches=lambda step: None if step in SKIPPED else [(1.0, batch(step))])
    weights = [(ctx.directory / "model" / "model.safetensors").read_bytes() for ctx in (rolled, plain)]
    assert weights[0] == weights[1]
    kept = {line["step"]: line["loss"] for line in lines(rolled) if not line["skipped"]}
    assert kept == {line["step"]: line["loss"] for line in lines(plain) if line["step"] in kept}


@pytest.mark.parametrize("dies_at", [5, 7, 8, 12, 17, 18, 20, 23])
def test_a_killed_run_is_bit_for_bit_the_same(go: Go, dies_at: int) -> None:
    """Killed before a spike, after a return to a checkpoint, and during steps that are repeated or skipped. With those,
    there are 24 steps: 0 to 6, 4 to 13, 12 to 14, and 12 to 15."""
    whole = go("whole")
    with pytest.raises(KeyboardInterrupt):
        go("cut", dies_at)
    cut = go("cut")
    for name in (METRICS, FILE, "model/model.safetensors"):
        assert (cut.directory / name).read_bytes() == (whole.directory / name).read_bytes()
    [one], [other] = ((ctx.directory / "state").glob("*.safetensors") for ctx in (cut, whole))
    assert one.read_bytes() == other.read_bytes()
    assert cut.counts == whole.counts


def test_returning_too_often_is_an_error(go: Go) -> None:
    with pytest.raises(UserError, match=r"spikes\.limit: step 15 is a spike .* returned 2 times to the checkpoint of"):
        go("r", bad={13: 60.0, 14: 60.0, 15: 60.0})


def test_a_corrupt_file_is_reported(tmp_path: Path) -> None:
    spike = Spike(6, StepMetrics(1.0, 1.0, 1, {}, skipped=True))
    RollBack(tmp_path, SPIKES, 0, EVERY, Parallel()).add(spike)
    assert RollBack(tmp_path, SPIKES, 0, EVERY, Parallel()).ranges == [(4, 6)]
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("6", "5", 1))
    with pytest.raises(UserError, match=r"rolled_back\.json is corrupt"):
        RollBack(tmp_path, SPIKES, 0, EVERY, Parallel())


def test_samples_of_evaluations_after_the_checkpoint_are_deleted(tmp_path: Path) -> None:
    for done in (0, 4, 5, 8):
        (tmp_path / "evaluations" / f"{done:08d}").mkdir(parents=True)
    RollBack(tmp_path, SPIKES, 0, EVERY, Parallel()).add(Spike(7, StepMetrics(1.0, 1.0, 1, {}, skipped=True)))
    assert sorted(p.name for p in (tmp_path / "evaluations").iterdir()) == ["00000000", "00000004"]
