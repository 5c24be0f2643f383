"""What doctor says about a recipe's precision on this machine."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from thinkling.pipeline.doctor import examine
from thinkling.pipeline.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe(compute: str) -> Recipe:
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text(encoding="utf-8"))
    raw["stages"]["sft"]["precision"] = {"compute": compute}
    return Recipe.model_validate(raw)


def notes(given: Recipe) -> list[str]:
    return [finding.detail for finding in examine(given) if finding.what == "precision"]


@pytest.mark.parametrize(("gpu", "units", "device"), [(False, False, "a CPU"), (True, False, "this GPU")])
def test_bf16_without_units_for_it_is_noted(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, units: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    [found] = notes(recipe("bfloat16"))
    assert found == (f"sft: bfloat16 may be many times slower on {device}: --set stages.sft.precision.compute=float32")
    assert notes(recipe("float32")) == []


def test_bf16_on_a_gpu_needs_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert notes(recipe("bfloat16")) == []


def test_the_override_that_it_names_works(tmp_path: Path) -> None:
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text(encoding="utf-8"))
    raw["stages"]["sft"]["precision"] = {"compute": "bfloat16"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    loaded = load_recipe(tmp_path / "r.yaml", ["stages.sft.precision.compute=float32"])
    assert loaded.stages["sft"].precision.compute == "float32"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_doctor_called_nano_ok_without_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain `pip install .`: the run ended at near deduplication, after `doctor` had found nothing."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rensa" else there(name))
    found = [finding for finding in examine(load_recipe(RECIPES / "nano.yaml")) if finding.level == "missing"]
    assert ["near_dedup: needs rensa; run pip install 'thinkling[curate]'" in finding.detail for finding in found] == [
        True
    ]
