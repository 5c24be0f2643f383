"""Loss curves of 20 steps, kept in golden_*.json: a change of model, loss, optimizer or trainer shows here first.

`python tests/train/test_golden.py` writes them anew, after a change that is meant.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from thinkling.train.config import OptimizerConfig
from thinkling.train.schedule import warmup_stable_decay
from thinkling.train.trainer import Trainer

HERE = Path(__file__).parent
OPTIMIZERS = ("adamw", "muon")
STEPS = 20


def curve(worker: ModuleType, optimizer: str) -> dict[str, list[float]]:
    """Loss and gradient norm of each step: a tiny decoder, two micro-batches, documents and padding, WSD."""
    config = OptimizerConfig.model_validate({"name": optimizer})
    trainer = Trainer(worker.decoder(), config, worker.objective)
    lr = warmup_stable_decay(STEPS, 0.01, warmup_steps=STEPS // 10, decay_fraction=0.3)
    steps = [trainer.step(worker.micro_batches(step, 4), lr(step)) for step in range(STEPS)]
    return {"loss": [m.loss for m in steps], "grad_norm": [m.grad_norm for m in steps]}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_curve_is_the_golden_one(worker: ModuleType, optimizer: str) -> None:
    golden = json.loads((HERE / f"golden_{optimizer}.json").read_text())
    found = curve(worker, optimizer)
    assert golden["loss"][-1] < golden["loss"][0] - 0.5
    assert found["loss"] == pytest.approx(golden["loss"], rel=1e-4)
    assert found["grad_norm"] == pytest.approx(golden["grad_norm"], rel=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("train_worker", HERE / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in OPTIMIZERS:
        text = json.dumps(curve(module, name), indent=1)
        (HERE / f"golden_{name}.json").write_text(text + "\n")
