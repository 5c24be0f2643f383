"""Arms differ in what they say they differ in, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.arms import EXPERIMENTS, PHASES, ROWS_A_STEP, UNIT_STEPS
from experiments.running import parse_seeds
from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.pretrain.phases import check_order, resolve

RECIPE = Path(__file__).resolve().parents[2] / "experiments" / "recipe.yaml"


def _recipe(arm: str) -> Recipe:
    base = load_recipe(RECIPE)
    (chosen,) = [a for a in EXPERIMENTS["fg-wsd"].arms if a.name == arm]
    return load_recipe(RECIPE, chosen.overrides(base, {}))


def _pretrain(arm: str) -> PretrainConfig:
    stage = _recipe(arm).stages["pretrain"]
    assert isinstance(stage, PretrainConfig)
    return stage


@pytest.mark.parametrize("arm", ["wsd", "fg_equal", "fg_rich"])
def test_every_fraction_is_a_whole_number_of_rows(arm: str) -> None:
    for phase in resolve(_pretrain(arm), 1e4):
        for source, fraction in phase.fractions.items():
            assert phase.rows * fraction == pytest.approx(round(phase.rows * fraction), abs=1e-6), (phase.name, source)


def test_fg_equal_spends_the_rows_of_wsd() -> None:
    def rows(arm: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for phase in resolve(_pretrain(arm), 1e4):
            for source, fraction in phase.fractions.items():
                found[source] = found.get(source, 0) + round(phase.rows * fraction)
        return found

    assert rows("fg_equal") == rows("wsd")
    assert rows("fg_rich")["hq-pages"] > rows("wsd")["hq-pages"]
    assert sum(rows("fg_rich").values()) == sum(rows("wsd").values())


def test_learning_rate_and_decay_are_those_of_wsd() -> None:
    ours, wsd = _pretrain("fg_equal"), _pretrain("wsd")
    assert [p.learning_rate for p in ours.phases] == [p.learning_rate for p in wsd.phases]
    assert ours.phases[-1] == wsd.phases[-1]
    check_order(ours.phases)
    check_order(_pretrain("fg_rich").phases)


def test_arms_differ_in_phases_alone() -> None:
    dumps = []
    for arm in ("wsd", "fg_equal", "fg_rich"):
        dump = _recipe(arm).model_dump()
        mixtures = [phase.pop("mixture") for phase in dump["stages"]["pretrain"]["phases"]]
        assert len(mixtures) == len(PHASES)
        dumps.append(dump)
    assert dumps[0] == dumps[1] == dumps[2]


def test_a_run_is_about_as_long_as_it_says() -> None:
    tokens = sum(phase.tokens for phase in _pretrain("wsd").phases)
    assert tokens == sum(units for _, units in PHASES) * UNIT_STEPS * ROWS_A_STEP * 128


def test_every_comparison_names_arms() -> None:
    for experiment in EXPERIMENTS.values():
        names = {arm.name for arm in experiment.arms} | {experiment.starts_from}
        assert {name for pair in experiment.pairs for name in pair} <= names
        assert len({arm.name for arm in experiment.arms}) == len(experiment.arms)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("5", [5]), ("3,1,1", [1, 3]), ("0-1, 7", [0, 1, 7])]
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0..3"])
def test_seeds_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_a_recipe_without_the_stage_is_told_what_is_missing() -> None:
    base = load_recipe(RECIPE)
    without = base.model_copy(update={"stages": {n: s for n, s in base.stages.items() if n != "pretrain"}})
    with pytest.raises(UserError, match="needs a stage 'pretrain' of kind pretrain"):
        EXPERIMENTS["fg-wsd"].arms[0].overrides(without, {})
