"""Memory in `plan`, and the refusal of what cannot fit on the GPU at hand."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from thinkling.errors import UserError
from thinkling.pipeline import checks, devices, training_memory
from thinkling.pipeline.devices import Card
from thinkling.pipeline.doctor import examine
from thinkling.pipeline.plan import show
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.pipeline.training_memory import device_of, show_memory, too_large
from thinkling.stages.training.memory import GIB

RECIPES = Path(__file__).parents[2] / "recipes"
SHAPE = {
    "vocab_size": 166144, "hidden_size": 2560, "intermediate_size": 10496, "num_hidden_layers": 32,
    "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False,
}  # fmt: skip
H100 = Card("NVIDIA H100 80GB HBM3", int(79.1 * GIB))
GOOD = ["precision={compute: bfloat16, weights: bfloat16}", "compile=true", "micro_batch_size=2"]


def recipe(*overrides: str) -> Recipe:
    """nano with the shape of the 3B model and rows of 4,096 tokens in pre-training."""
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text(encoding="utf-8"))
    raw["model"] |= SHAPE
    stage = raw["stages"]["pretrain"]
    stage |= {"sequence_length": 4096, "batch_tokens": 8 * 4096}
    for phase in stage["phases"]:
        phase.pop("sequence_length", None)
        phase.pop("batch_tokens", None)
        phase["tokens"] = 8 * 4096
    for override in overrides:
        name, _, value = override.partition("=")
        stage[name] = yaml.safe_load(value)
    return Recipe.model_validate(raw)


def shown(given: Recipe) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show_memory(given, console)
    return console.export_text()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    monkeypatch.setattr(training_memory, "card", lambda: H100)
    return H100


def test_a_stage_that_cannot_fit_is_refused(card: Card) -> None:
    """fp32 with 8 rows of 4,096 tokens."""
    lines = list(too_large(recipe("optimizer={name: adamw}"), ["pretrain"]))
    assert len(lines) == 1
    assert lines[0].startswith("stages.pretrain: a training step needs at least ")
    assert "NVIDIA H100 80GB HBM3 has 79.1 GiB; use " in lines[0]
    assert "recompute: full (" in lines[0]
    wrong = [found for found in checks.wrong(recipe("optimizer={name: adamw}"), ["pretrain"]) if found.what == "memory"]
    assert [found.line for found in wrong] == lines
    with pytest.raises(UserError, match="needs at least"):
        checks.check(recipe("optimizer={name: adamw}"), ["pretrain"])
    findings = examine(recipe("optimizer={name: adamw}"))
    assert any(found.what == "memory" and found.level == "missing" and found.detail in lines for found in findings)


def test_a_stage_that_fits_is_not_refused(card: Card) -> None:
    given = recipe("optimizer={name: adamw}", *GOOD)
    assert list(too_large(given, ["pretrain"])) == []
    text = shown(given)
    assert "predicted memory per GPU (NVIDIA H100 80GB HBM3 with 79.1 GiB), GiB" in text
    assert "pretrain: fits; the largest that fit: recompute: none and micro_batch_size: 2 (" in text
    assert "at an assumed MFU of 40%" in text


def test_a_close_call_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 rows need 75 GiB of 76, which is above 95% but below 110%."""
    monkeypatch.setattr(training_memory, "card", lambda: Card("a smaller card", 76 * GIB))
    given = recipe("optimizer={name: adamw}", *GOOD, "micro_batch_size=4", "batch_tokens=16384")
    assert list(too_large(given, ["pretrain"])) == []
    assert "pretrain: may not fit; the largest that fit: recompute: none and micro_batch_size: 2 (" in shown(given)


def test_samples_that_may_be_short_are_not_refused(card: Card) -> None:
    given = recipe("optimizer={name: adamw}", *GOOD)
    rl = next(name for name, stage in given.stages.items() if stage.kind == "rl")
    training = given.stages[rl].model_copy(
        update={"micro_tokens": 10**7, "precision": given.stages["pretrain"].precision}
    )  # pyright: ignore[reportAttributeAccessIssue]
    given = given.model_copy(update={"stages": {**given.stages, rl: training}})
    assert list(too_large(given, [rl])) == []


def test_without_a_gpu_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_memory, "card", lambda: None)
    given = recipe("optimizer={name: adamw}")
    assert list(too_large(given, ["pretrain"])) == []
    text = shown(given)
    assert "predicted memory, GiB" in text
    assert "fit" not in text


def test_the_memory_of_the_recipes_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_memory, "card", lambda: None)
    given = load_recipe(RECIPES / "nanbeige4-3b.yaml", ["hardware.memory_gib=79", "hardware.devices=8"])
    device = device_of(given)
    assert (device.name, device.memory, device.ranks, device.at_hand) == ("H100 SXM", 79 * GIB, 8, False)
    assert "H100 SXM with 79.0 GiB" in shown(given)


def test_ranks_of_torchrun_share_the_state(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recipe("optimizer={name: adamw}", *GOOD, "precision={compute: bfloat16}")
    assert list(too_large(given, ["pretrain"])) != []
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert list(too_large(given, ["pretrain"])) == []


def test_a_recipe_for_all_gpus_is_not_refused_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` runs without torchrun. It says that one process does not fit, but does not end with an error."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(training_memory, "card", lambda: H100._replace(count=8))
    given = recipe("optimizer={name: adamw}", *GOOD, "precision={compute: bfloat16}")
    assert list(too_large(given, ["pretrain"])) == []
    assert "pretrain: does not fit; " in shown(given)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert list(too_large(given, ["pretrain"])) != []


def test_plan_prints_every_training_stage(tmp_path: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    given = load_recipe(RECIPES / "nano.yaml")
    show(given, tmp_path, console)
    text = console.export_text().partition("predicted memory")[2]
    training = [name for name, stage in given.stages.items() if stage.kind in ("pretrain", "sft", "dpd", "rl")]
    assert [name for name in training if name in text] == training


def test_without_a_driver_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVERS", ("/nonexistent",))
    assert devices.card() is None


def test_a_dry_run_is_not_part_of_the_hash(tmp_path: Path) -> None:
    from thinkling.pipeline.runner import Run

    plain, dry = (
        Run(load_recipe(RECIPES / "nano.yaml", more), tmp_path).resolved("pretrain")
        for more in ([], ["stages.pretrain.dry_run_step=true"])
    )
    assert plain == dry
    assert "dry_run_step" not in plain["stage"]
