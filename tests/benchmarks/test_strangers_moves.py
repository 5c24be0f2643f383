"""The claims strangers.moves and the script that compares precisions, at sizes that take seconds."""

from pathlib import Path

import pytest
import torch

from benchmarks.speed import precision as speed
from benchmarks.strangers import moves


@pytest.mark.slow
def test_models_move_but_those_rounded_to_the_nearest(tmp_path: Path) -> None:
    found = moves.measure(tmp_path, seed=7, steps=20)
    assert set(found) == {*moves.ARMS, moves.NEAREST}
    assert found["fp32 weights"] == pytest.approx({"ratio": 1.0, "loss": 0.0, "measured_loss": 0.0}, abs=1e-5)
    assert all(found[arm]["loss"] < 0.01 for arm in moves.ARMS)
    assert all(abs(found[arm]["ratio"] - 1) < 0.1 for arm in moves.ARMS)
    assert abs(found[moves.NEAREST]["ratio"]) < 0.1


def test_the_claim_is_the_arm_that_is_farthest_from_1() -> None:
    runs = [{"a": {"ratio": 1.01}, "b": {"ratio": 0.9}}, {"a": {"ratio": 1.03}, "b": {"ratio": 1.08}}]
    found = moves.distance(runs, ["a", "b"])
    assert found["value"] == pytest.approx(0.02)
    assert found["runs"][1] == {"arm": "b", "mean": pytest.approx(0.99), "ratios": [0.9, 1.08]}


def test_rounding_to_the_nearest_is_for_that_run_alone() -> None:
    stochastic = moves.precision.round_stochastically
    with moves.to_nearest():
        found = moves.precision.round_stochastically(torch.full((9,), 1.001), torch.zeros(9, dtype=torch.int32))
        assert found.tolist() == [1.0] * 9
    assert moves.precision.round_stochastically is stochastic


def test_precisions_are_compared() -> None:
    found = speed.measure("tiny", rounds=2, steps=2, device=torch.device("cpu"))
    assert [found[name]["bytes_per_parameter"] for name in speed.PRECISIONS] == [12.0, 12.0, 6.0]
    assert all(x["tokens_per_second"] > 0 and len(x["rounds"]) == 2 for x in found.values())
    assert found["float32"]["over_float32"] == 1.0
