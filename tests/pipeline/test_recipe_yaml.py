"""YAML that is no recipe: one line, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.recipe_yaml import apply_override, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2026-99-99\n", "line 2: not valid YAML: a value cannot be read as timestamp"),
        ("name: !!timestamp x\n", "line 1: not valid YAML: a value cannot be read as timestamp"),
        ("when: 2026-01-01T00:00:00-99:00\n", "cannot be read as timestamp"),
        ("seed: !!int x\n", "cannot be read as int"),
        ("seed: " + "9" * 5000 + "\n", "cannot be read as int"),
        ("lr: !!float x\n", "cannot be read as float"),
        ("keep: !!bool x\n", "cannot be read as bool"),
        ("a: {b: {c: !!int x}}\n", "cannot be read as int"),
        ("[[]]: x\n", "line 1: not valid YAML: a key is a list or a mapping"),
        ("a: {? {b: c} : d}\n", "a key is a list or a mapping"),
        ("x: " + "[" * 2000, "nested too deeply"),
    ],
)
def test_values_that_yaml_cannot_read_were_a_traceback(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"recipe\.yaml") as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_hundreds_of_nested_lists_took_seconds(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for depth, outcome in (
        (90, "a recipe must be a mapping"),
        (101, "nested too deeply: more than 100"),
        (490, "too deeply"),
    ):
        path.write_text("[" * depth + "]" * depth)
        with pytest.raises(UserError, match=outcome):
            read_yaml(path)


@pytest.mark.timeout(20)
def test_hundreds_of_unknown_keys_took_seconds_each(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nstages: {}\n" + "".join(f"k{i}: 1\n" for i in range(300)))
    with pytest.raises(UserError, match="k299: unknown key"):
        load_recipe(path)


def test_anchors_within_anchors_did_not_end(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(["a0: &a0 [1, 1]", *levels]))
    with pytest.raises(UserError, match="more than 1,000,000 values"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["!!int x", "2026-99-99", "[" * 2000, "{[]: 1}"])
def test_an_override_that_yaml_cannot_read(text: str) -> None:
    with pytest.raises(UserError, match="--set seed="):
        apply_override({"seed": 1}, f"seed={text}", ())
