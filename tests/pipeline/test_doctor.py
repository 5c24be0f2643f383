"""What doctor says about the devices of this machine and a recipe's precision on them."""

# pyright: reportPrivateUsage=false

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from thinkling.pipeline import devices
from thinkling.pipeline.doctor import examine
from thinkling.pipeline.finding import Finding
from thinkling.pipeline.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe(compute: str) -> Recipe:
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text(encoding="utf-8"))
    raw["stages"]["sft"]["precision"] = {"compute": compute}
    return Recipe.model_validate(raw)


def notes(given: Recipe) -> list[str]:
    return [finding.detail for finding in examine(given) if finding.what == "precision"]


def pretend_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says about a card, where there is none."""
    card = SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (78 * 2**30, 80 * 2**30))
    monkeypatch.setattr(devices, "_versions", lambda: "torch 2.13, driver for CUDA 13.0, NCCL 2.28.9")
    monkeypatch.setattr(devices, "_attention", lambda: Finding("attention", "ok", "cuDNN"))


def test_the_doctor_said_nothing_of_the_card_but_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pretend_devices(monkeypatch)
    found = {finding.what: finding.detail for finding in examine(None)}
    assert found["devices"] == "NVIDIA H100 80GB HBM3 (80 GiB, 78 GiB free, compute capability 9.0)"
    assert {"CUDA", "attention"} <= found.keys()


def test_what_compiling_needs_is_missed_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text(encoding="utf-8"))
    raw["stages"]["sft"]["compile"] = True
    monkeypatch.setattr(shutil, "which", lambda name: None)
    [found] = devices._compiling(Recipe.model_validate(raw))
    assert found.level == "missing"
    assert "a C compiler (cc, gcc or clang)" in found.detail
    assert found.detail.endswith("or --set stages.sft.compile=false")
    raw["stages"]["sft"]["compile"] = False
    assert devices._compiling(Recipe.model_validate(raw)) == []


@pytest.mark.parametrize(("gpu", "units", "device"), [(False, False, "a CPU"), (True, False, "this GPU")])
def test_bf16_without_units_for_it_is_noted(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, units: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    pretend_devices(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    [found] = notes(recipe("bfloat16"))
    assert found == (f"sft: bfloat16 may be many times slower on {device}: --set stages.sft.precision.compute=float32")
    assert notes(recipe("float32")) == []


def test_bf16_on_a_gpu_needs_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pretend_devices(monkeypatch)
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
