"""The mean of the weights after certain steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thinkling.train.average import AVERAGE, WeightAverage
from thinkling.train.callback import SKIPPED
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.trainer import Objective, Trainer, fit

Make = Callable[..., Any]


@given(
    st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 2**31), st.sampled_from(["float32", "bfloat16"])
)
def test_the_mean_is_that_of_the_weights_that_are_due(due: list[bool], seed: int, dtype: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(3, 2).to(getattr(torch, dtype))
    average = WeightAverage(model, due.__getitem__)
    seen = []
    for step, is_due in enumerate(due):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=generator))
        average.on_step(step, SKIPPED, 0.0)
        seen += [model.weight.detach().double()] if is_due else []
    assert average.count == len(seen)
    mean = average.state_tensors()[AVERAGE + "weight"]
    assert mean.dtype == torch.float32
    if seen:
        assert torch.allclose(mean.double(), torch.stack(seen).mean(0), rtol=1e-5, atol=1e-6)
        average.apply()
        assert torch.equal(model.weight, mean.to(model.weight.dtype))


def test_the_mean_of_one_is_that_weight() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, lambda step: step == 1)
    before = model.weight.detach().clone()
    average.on_step(0, SKIPPED, 0.0)
    average.on_step(1, SKIPPED, 0.0)
    average.apply()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("killed_at", [3, 6, 7, 10])
@pytest.mark.parametrize("precision", [PrecisionConfig(), PrecisionConfig(compute="bfloat16", weights="bfloat16")])
def test_a_killed_run_has_the_same_mean(
    make_toy: Make, make_batch: Make, objective: Objective, tmp_path: Path, killed_at: int, precision: PrecisionConfig
) -> None:
    def run(directory: Path, until: int | None) -> Trainer:
        def batches(step: int) -> list[Any]:
            if step == until:
                raise KeyboardInterrupt
            return [make_batch(step)]

        trainer = Trainer(make_toy(), OptimizerConfig(), objective, precision=precision)
        trainer.average = WeightAverage(trainer.model, lambda step: step >= 4 and step % 2 == 1)
        fit(trainer, batches, lambda step: 0.01, 12, Checkpoints(directory, 2), [trainer.average])
        return trainer

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", killed_at)
    resumed = run(tmp_path / "cut", None)
    assert whole.average is not None
    assert whole.average.count == 4
    for name, tensor in whole.state_tensors().items():
        assert torch.equal(resumed.state_tensors()[name], tensor), name
