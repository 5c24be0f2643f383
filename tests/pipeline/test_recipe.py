"""A recipe's mistakes are told in a line that names the field (A13)."""

from pathlib import Path

import pytest
import yaml

from thinkling.errors import UserError
from thinkling.pipeline.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.sft.epoch=2", "stages.sft.epoch: unknown key; did you mean 'epochs'?"),
        ("modell={}", "modell: unknown key; did you mean 'model'?"),
        (
            "stages.pretrain.phases.0.mixtures={}",
            "stages.pretrain.phases.0.mixtures: unknown key; did you mean 'mixture'?",
        ),
        (
            "stages.pretrain.phases.1.tokens=-5",
            "stages.pretrain.phases.1.tokens: input should be greater than 0 (it is -5)",
        ),
        ("stages.sft.epochs=many", "stages.sft.epochs: input should be a valid number"),
        (
            "stages.sft.inputs.model=pretrian",
            "stages.sft.inputs.model: 'pretrian' is no stage; did you mean 'pretrain'?",
        ),
        ("stages.sft.inputs.model=curate", "stages.sft.inputs.model: 'curate' makes documents, not model"),
        ("stages.pretrain.inputs={}", "stages.pretrain.inputs.tokens: missing"),
        ("stages.curate.heldout=[puzles]", "stages.curate: there is no source 'puzles'; did you mean 'puzzles'?"),
        ("stages.sft.kind=sfft", "stages.sft: kind 'sfft' is unknown"),
        ("sources.topics.type=stdlib", "sources.topics: type 'stdlib' is unknown"),
        ("stages.pretrain.batch_tokens=100", "stages.pretrain: phases.warm-up: batch_tokens 100 is not a multiple"),
        ("threads=0", "threads: input should be greater than or equal to 1 (it is 0)"),
        ("name=../x", "name: string should match pattern"),
    ],
)
def test_mistakes_name_their_field(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", [override])
    assert message in str(caught.value)
    assert all(line.startswith(str(RECIPES / "nano.yaml")) for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.sft.row_length=64", "stages.sft.row_length: renamed to sequence_length"),
        ("stages.dpd.batch_pairs=2", "stages.dpd.batch_pairs: renamed to batch_size"),
        ("stages.pretrain.phases.0.row_length=64", "stages.pretrain.phases.0.row_length: renamed to sequence_length"),
        ("stages.pretrain.evaluate_rows=4", "stages.pretrain.evaluate_rows: renamed to validation_rows"),
    ],
)
def test_a_renamed_key_is_told_its_new_name(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", [override])
    assert str(caught.value) == f"{RECIPES / 'nano.yaml'}: {message}"


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", ["stages.sft.epoch=2", "threads=0"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.nothing.steps=1", "the recipe has no stages.nothing"),
        ("stages.pretrain.phases.9.tokens=1", "the recipe has no stages.pretrain.phases.9"),
        ("seed", "write field=value"),
        ("seed=[", "not valid YAML"),
        ("seed.x=1", "seed is a single value"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"--set .*{message}"):
        load_recipe(RECIPES / "nano.yaml", [override])


def test_override_of_a_part_that_the_file_leaves_out() -> None:
    assert load_recipe(RECIPES / "nano.yaml", ["hardware.mfu=0.3"]).hardware.mfu == 0.3


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [x\nseed: 1\n")
    with pytest.raises(UserError, match=r"broken.yaml, line \d: not valid YAML"):
        load_recipe(broken)
    broken.write_text("- 1\n")
    with pytest.raises(UserError, match="a recipe is a mapping"):
        load_recipe(broken)


def test_yaml_tags_make_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("name: !!python/object/apply:os.system ['true']\nstages: {}\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(path)


def test_input_must_stand_earlier(tmp_path: Path) -> None:
    data = yaml.safe_load((RECIPES / "nano.yaml").read_text())
    data["stages"] = dict(reversed(data["stages"].items()))
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(UserError, match="stands later in the recipe"):
        load_recipe(path)


def test_what_a_stage_rests_on() -> None:
    recipe = load_recipe(RECIPES / "tiny.yaml")
    assert recipe.needed_by(["sft_cold"]) == ["curate", "tokenize", "pretrain", "sft_cold"]
    assert recipe.needed_by(list(recipe.stages)) == list(recipe.stages)
