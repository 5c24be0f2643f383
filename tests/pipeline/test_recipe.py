"""A recipe's mistakes are told in a line that names the field."""

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
            "stages.sft.inputs.model: 'pretrian' is neither a stage nor a source of type model or tokens; "
            "did you mean 'pretrain'?",
        ),
        ("stages.sft.inputs.model=curate", "stages.sft.inputs.model: 'curate' produces documents, not model"),
        ("stages.pretrain.inputs={}", "stages.pretrain.inputs.tokens: missing"),
        (
            "stages.curate.heldout=[puzles]",
            "stages.curate.heldout: there is no source 'puzles'; did you mean 'puzzles'?",
        ),
        ("stages.sft.kind=sfft", "stages.sft: kind 'sfft' is unknown"),
        ("sources.topics.type=stdlib", "sources.topics.type: unknown type of source 'stdlib'; use one of"),
        ("stages.pretrain.batch_tokens=100", "stages.pretrain: phases.warm-up: batch_tokens 100 is not a multiple"),
        ("threads=0", "threads: input should be greater than or equal to 1 (it is 0)"),
        ("name=../x", "name: '../x' is not a valid name; use up to 100 ASCII letters, digits"),
        ("name=no", "name: input should be a valid string (it is False); put it in quotes"),
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
        ("stages.tokenize.holdout_documents=0.1", "stages.tokenize.holdout_documents: renamed to validation_fraction"),
        (
            "stages.sft_cold.examples.problems_per_family=9",
            "stages.sft_cold.examples.0.problems_per_family: renamed to n_examples",
        ),
        (
            "stages.refine.problems.problems_per_family=9",
            "stages.refine.problems.problems_per_family: renamed to n_problems",
        ),
        ("stages.rl_stem.problems.0.share=1", "stages.rl_stem.problems.0.share: renamed to weight"),
        ("stages.rl_preference.inputs.judge=sft", "stages.rl_preference.inputs.judge: renamed to preference_model"),
        ("stages.evaluate.batch_size=9", "stages.evaluate.batch_size: renamed to max_concurrent"),
        ("sources.pages.corrupted=0.1", "sources.pages.corrupted: renamed to noise_fraction"),
        (
            "stages.sft_cold.examples.without_trace=0.5",
            "stages.sft_cold.examples.0.without_trace: moved to the source, as answer_only_fraction",
        ),
        ("stages.refine.corrupted=0.3", "stages.refine.corrupted: moved to style_options.noise_fraction"),
    ],
)
def test_a_renamed_key_is_told_its_new_name(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", [override])
    assert str(caught.value) == f"{RECIPES / 'nano.yaml'}: {message}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sandbox=maybe", "sandbox: input should be 'required' or 'none' or a mapping (it is 'maybe')"),
        ("sandbox.packages=[zlib]", "sandbox.packages.0: input should be 'numpy' or 'sympy' (it is 'zlib')"),
        ("stages.sft.examples=[1]", "stages.sft.examples.0: input should be a mapping (it is 1)"),
        ("stages.sft.chat=5", "stages.sft.chat: input should be a mapping (it is 5)"),
        (
            "stages.curate.grading={seeds: {curate: 1}, hq_tokens: 1, annotator: rule}",
            "stages.curate.grading.annotator: input should be 'rules' or a mapping (it is 'rule')",
        ),
        (
            "stages.curate.grading={seeds: {curate: 1}, hq_tokens: 1, annotator: {url: 5, model: m}}",
            "stages.curate.grading.annotator.url: input should be a valid string (it is 5); put it in quotes",
        ),
    ],
)
def test_a_mistake_showed_the_inside_of_pydantic(override: str, message: str) -> None:
    """`stages.curate.grading.annotator.function-after[_served_fields(), ServedAnnotatorConfig].url: …`, and a second
    line for the form that was not meant."""
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", [override])
    lines = str(caught.value).split("\n")
    assert lines[-1].removeprefix(f"{RECIPES / 'nano.yaml'}: ") == message
    assert not [line for line in lines if "[" in line or "Config" in line]


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(RECIPES / "nano.yaml", ["stages.sft.epoch=2", "threads=0"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.nothing.steps=1", "the recipe has no field stages.nothing"),
        ("stages.pretrain.phases.9.tokens=1", "the recipe has no field stages.pretrain.phases.9"),
        ("seed", "write field=value"),
        ("seed=[", "not valid YAML"),
        ("seed.x=1", "seed is a single value"),
        ("stages.pretrain.optimizer.lr=.inf", "the value: inf is not a finite number"),
        ("seed=2026-13-45", "the value is not valid YAML"),
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
    with pytest.raises(UserError, match="a recipe must be a mapping"):
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
    with pytest.raises(UserError, match="comes later in the recipe"):
        load_recipe(path)


def test_what_a_stage_rests_on() -> None:
    recipe = load_recipe(RECIPES / "tiny.yaml")
    assert recipe.needed_by(["sft_cold"]) == ["curate", "tokenize", "pretrain", "sft_cold"]
    assert recipe.needed_by(list(recipe.stages)) == list(recipe.stages)


ANCHORED = """
name: r
stages:
  a: {kind: evaluate, inputs: {model: m}, max_new_tokens: 8, task_sets: &sets {p: {source: p}}}
  b: {kind: evaluate, inputs: {model: m}, max_new_tokens: 8, task_sets: *sets}
sources:
  m: {type: model, path: m}
  p: {type: puzzles, families: {sort: {}}}
"""


def test_an_override_under_an_anchor_changes_one_field(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(ANCHORED)
    before, after = load_recipe(path), load_recipe(path, ["stages.b.task_sets.p.renderer=puzzle_pages"])
    assert after.stages["a"] == before.stages["a"]
    assert after.stages["b"].model_dump()["task_sets"]["p"]["renderer"] == "puzzle_pages"


def test_tiny_overrides_change_the_named_stage_alone() -> None:
    before = load_recipe(RECIPES / "tiny.yaml")
    after = load_recipe(RECIPES / "tiny.yaml", ["stages.evaluate_dpd.task_sets.puzzles.renderer=puzzle_pages"])
    assert [name for name in before.stages if before.stages[name] != after.stages[name]] == ["evaluate_dpd"]


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nseed: 1\nseed: 2\nstages: {}\n")
    with pytest.raises(UserError, match=r"r\.yaml, line 3: not valid YAML: the key 'seed' occurs twice"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["1: a\n1: b", "true: a\ntrue: b", "null: a\nnull: b", "{name: a, name: b}"])
def test_a_key_of_any_kind_given_twice_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: a\nstages:\n  x: {{}}\n  y:\n    {text.replace(chr(10), chr(10) + '    ')}\n")
    with pytest.raises(UserError, match=r"line \d: not valid YAML: the key .* occurs twice"):
        load_recipe(path)


def test_a_field_set_twice_is_an_error() -> None:
    with pytest.raises(UserError, match="--set seed: specified twice"):
        load_recipe(RECIPES / "nano.yaml", ["seed=1", "threads=1", "seed=2"])


PATHS = ["../outside", "../../x", "a/b", "/tmp/x", ".hidden", "-rf", "a\0b", "a b", "a\nb", "..", "", "ä", "x" * 101]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("place", ["name", "stages", "sources", "task_sets"])
def test_names_that_could_become_paths_are_refused(tmp_path: Path, place: str, name: str) -> None:
    recipe = yaml.safe_load((RECIPES / "nano.yaml").read_text())
    if place == "name":
        recipe["name"] = name
    elif place == "task_sets":
        sets = recipe["stages"]["evaluate_base"]["task_sets"]
        sets[name] = sets["puzzles"]
    else:
        first = next(iter(recipe[place]))
        recipe[place] = {name: recipe[place][first]} | recipe[place]
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    told = str(caught.value)
    assert "is not a valid name; use up to 100 ASCII letters" in told
    assert place in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\nseed: 1\n".encode("utf-16"), "not UTF-8"),
        ("name: ä\n".encode("latin-1"), "not UTF-8"),
        (b"name: a\0\n", "not valid YAML: unacceptable character"),
        (b"name: a\n\tseed: 1\n", "not valid YAML"),
        (b"", "a recipe must be a mapping"),
        (b"\xef\xbb\xbf", "a recipe must be a mapping"),
        (b"name: a\n? [1, 2]\n: b\n", "not valid YAML: a key is a list or a mapping"),
        (b"seed: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (
            b"a: &a [x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(9)),
            "more than 1,000,000 values after expanding YAML anchors",
        ),
        (b"name: 2026-13-45\n", "line 1: not valid YAML: a value cannot be read as timestamp"),
        (b"name: a\nseed: .nan\n", "seed: nan is not a finite number"),
    ],
)
def test_a_file_that_holds_no_recipe_is_told_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    text = (RECIPES / "nano.yaml").read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert load_recipe(path).model_dump() == load_recipe(RECIPES / "nano.yaml").model_dump()


def test_an_anchor_that_contains_itself_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nstages: &s {a: *s}\n")
    with pytest.raises(UserError, match="anchor contains itself"):
        load_recipe(path)


def test_a_renamed_type_of_source_is_named() -> None:
    with pytest.raises(UserError, match=r"sources\.puzzles\.type: 'tasks' is now called 'puzzles'"):
        load_recipe(RECIPES / "nano.yaml", ["sources.puzzles.type=tasks"])


def test_a_source_must_offer_what_a_stage_needs() -> None:
    with pytest.raises(
        UserError, match=r"stages\.sft_cold\.examples\.source: 'topics': a source of type python_stdlib offers"
    ):
        load_recipe(RECIPES / "nano.yaml", ["stages.sft_cold.examples={source: topics}"])
