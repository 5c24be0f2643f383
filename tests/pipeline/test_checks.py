"""Mistakes that depend on this machine, found before a run starts."""

from pathlib import Path

import pytest
import torch

from thinkling.errors import UserError
from thinkling.pipeline.checks import check, wrong
from thinkling.pipeline.recipe import load_recipe

NANO = Path(__file__).parents[2] / "recipes" / "nano.yaml"
FLOAT8 = ["stages.pretrain.precision={compute: bfloat16, float8: rowwise}"]


def test_fp8_without_a_gpu_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = load_recipe(NANO, FLOAT8)
    with pytest.raises(
        UserError,
        match=r"^stages\.pretrain\.precision\.float8: needs an NVIDIA GPU of compute capability 8\.9 or higher, and "
        r"this machine has no GPU; use --set stages\.pretrain\.precision\.float8=null$",
    ):
        check(recipe, ["pretrain"])
    assert [found.what for found in wrong(recipe, ["pretrain", "evaluate"])] == ["float8"]
    assert list(wrong(recipe, ["evaluate"])) == []
    cured = load_recipe(NANO, [*FLOAT8, "stages.pretrain.precision.float8=null"])
    assert list(wrong(cured, list(cured.stages))) == []


def test_fp8_on_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(NANO, FLOAT8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert [found.line for found in wrong(recipe, ["pretrain"])] == [
        "stages.pretrain.precision.float8: needs an NVIDIA GPU of compute capability 8.9 or higher, and this GPU has "
        "8.0; use --set stages.pretrain.precision.float8=null"
    ]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert list(wrong(recipe, ["pretrain"])) == []
