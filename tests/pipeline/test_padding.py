"""The padding that `plan` predicts, against the padding of the rows that training uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from thinkling.data.mixture import MixtureLoader, MixturePhase, waste
from thinkling.data.shards import ShardWriter, open_sources
from thinkling.pipeline import padding, plan
from thinkling.pipeline.padding import predicted_waste, source_lengths
from thinkling.pipeline.recipe import load_recipe
from thinkling.stages.pretrain.phases import Phase

RECIPE = Path(__file__).parents[2] / "recipes" / "nanbeige4-3b.yaml"


def write(directory: Path, names: list[str], longest: int, n: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        with ShardWriter(directory, name, 300) as writer:
            for length in rng.integers(1, longest, n):
                writer.add(np.zeros(length, dtype=np.int64))
    return directory


def phase(name: str, steps: int, sequence_length: int, fractions: dict[str, float], packing: str) -> Phase:
    batch = 1024 // sequence_length
    return Phase(name, 0, steps, sequence_length, batch, 1e4, 0.1, 0.1, "linear", fractions, False, packing)  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", ["sequential", "best_fit"])
def test_prediction_equals_the_rows_of_training(tmp_path: Path, packing: str) -> None:
    shards = write(tmp_path, ["a", "b"], 60)
    phases = [phase("one", 3, 64, {"a": 0.5, "b": 0.5}, packing), phase("two", 4, 128, {"b": 1.0}, packing)]
    own = [MixturePhase(p.rows, p.sequence_length, p.fractions, best_fit=packing == "best_fit") for p in phases]
    loader = MixtureLoader(own, open_sources(shards), 9, 8)
    predicted = predicted_waste(phases, source_lengths(shards), 9)
    for number, found in enumerate(predicted):
        assert found == pytest.approx({name: waste(used) for name, used in loader.usage(number).items()}, abs=1e-6)


def test_large_sources_and_phases_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write(tmp_path, ["a"], 60, n=3000)
    phases = [phase("one", 500, 64, {"a": 1.0}, "sequential")]
    [whole] = predicted_waste(phases, source_lengths(shards), 0)
    monkeypatch.setattr(padding, "_DOCUMENTS", 1000)
    monkeypatch.setattr(padding, "_ROWS", 200)
    assert source_lengths(shards)["a"].n_documents == 1000
    [sampled] = predicted_waste(phases, source_lengths(shards), 0)
    assert sampled != whole
    assert sampled["a"] == pytest.approx(whole["a"], abs=0.05)


def test_the_plan_prints_the_padding_of_each_source(tmp_path: Path) -> None:
    names = ["hq-general", "hq-reasoning", "mq"]
    shards = write(tmp_path, names, 6000)
    found = {
        packing: plan.plan_pretraining(
            load_recipe(RECIPE, [f"stages.pretrain.packing={packing}"]), "pretrain", {}, shards=shards
        )
        for packing in ("sequential", "best_fit")
    }
    for name in names:
        assert 0 <= found["best_fit"].waste[name] < 0.5 * found["sequential"].waste[name]
    assert found["sequential"].as_json(load_recipe(RECIPE).hardware)["phases"][0]["waste"]["mq"] > 0.01
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    plan._print_pretraining(found["sequential"], load_recipe(RECIPE).hardware, console)
    assert f"padding in rows: hq-general {found['sequential'].waste['hq-general']:.1%}" in console.export_text()
