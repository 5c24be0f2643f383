"""The shipped recipes on a user's files, from a model directory of another project to one that transformers loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.own_data import posttrain, real


@pytest.mark.slow
@pytest.mark.parametrize("shape", posttrain.SHAPES)
def test_own_files_through_all_of_posttrain(tmp_path: Path, shape: posttrain.Shape) -> None:
    data = os.environ.get("THINKLING_DATA")
    if data is None:
        pytest.skip("needs GSM8K and MBPP: set THINKLING_DATA")
    found = posttrain.run_shape(shape, tmp_path / shape, Path(data))
    assert set(found["ended"]) == set(posttrain.STAGES)
    assert found["loaded"] == dict.fromkeys(posttrain.MODELS, True)


@pytest.mark.slow
def test_a_real_model_calls_the_calculator_after_sft(tmp_path: Path) -> None:
    """Some 20 minutes on two cores, two on a GPU."""
    model = os.environ.get("THINKLING_SMOLLM2")
    if model is None or "THINKLING_DATA" not in os.environ:
        pytest.skip("set THINKLING_SMOLLM2 to what benchmarks.own_data.smollm2 wrote, and THINKLING_DATA")
    found = real.run(Path(model), tmp_path, Path(os.environ["THINKLING_DATA"]))
    assert real.holds(found) == 1.0, found


def test_the_claim_counts_what_did_not_end_or_load() -> None:
    whole = {"ended": list(posttrain.STAGES), "loaded": dict.fromkeys(posttrain.MODELS, True)}
    lacking = {"ended": list(posttrain.STAGES[:-1]), "loaded": {"sft": True, "dpd": False}}
    assert posttrain.measurement({"a": whole})["value"] == 1.0
    assert posttrain.measurement({"a": whole, "b": lacking})["value"] == pytest.approx(1 - 3 / 18)
