"""Recipes that come with thinkling are found by their names, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.pipeline.packaged import find, packaged
from thinkling.pipeline.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_no_recipe_was_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"nano", "tiny", "sft", "rl-gsm8k", "posttrain"} <= set(packaged())
    assert load_recipe(find(Path("tiny"))).name == load_recipe(find(Path("tiny.yaml"))).name == "tiny"


def test_packaged_recipes_are_those_of_the_repository() -> None:
    here = {path.stem: path.read_bytes() for path in (ROOT / "recipes").glob("*.yaml")}
    assert {name: path.read_bytes() for name, path in packaged().items()} == here


def test_a_local_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text("mine")
    assert find(Path("tiny")) == Path("tiny")


@pytest.mark.parametrize(
    ("given", "said"), [("tinny", "did you mean 'tiny'"), ("other/tiny", "no such file"), ("recipes", "init sft")]
)
def test_an_unknown_name_is_answered_with_those_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^{given}: no such file.*nano.*tiny") as told:
        find(Path(given))
    assert said in str(told.value)


def test_a_folder_named_as_a_recipe_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find(Path("tiny")) == packaged()["tiny"]
