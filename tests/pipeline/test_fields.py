"""`thinkling fields`: every field of a recipe is explained; and `plan --resolved`: a recipe with all defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from thinkling.errors import UserError
from thinkling.pipeline.fields import describe, kinds, overview, page
from thinkling.pipeline.packaged import packaged
from thinkling.pipeline.plan import resolved
from thinkling.pipeline.recipe import KINDS, load_recipe
from thinkling.sources.base import TYPES

ALL = [kind for names in kinds().values() for kind in names]


@pytest.mark.parametrize("kind", ALL)
def test_every_field_has_a_type_a_default_and_a_meaning(kind: str) -> None:
    lines = list(describe(kind))
    starts = [i for i, line in enumerate(lines) if line and not line.startswith(" ") and "(" in line and i > 0]
    assert starts
    fields = [i for i in starts if ": " in lines[i]]
    bare = [lines[i] for i in fields if not (i + 1 < len(lines) and lines[i + 1].startswith("    "))]
    assert bare == []
    assert max(map(len, lines)) <= 80


def test_kinds_are_listed_with_their_sentence() -> None:
    text = "\n".join(overview())
    assert all(f"  {kind}" in text for kind in ALL)
    assert "…" not in text


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'evaluate'"):
        list(describe("evaluat"))


def test_a_default_and_a_bound_are_shown() -> None:
    text = "\n".join(describe("sft"))
    assert "sequence_length: integer ≥ 16  (required)" in text
    assert "max_repeats: number ≥ 1  (default: 4)" in text
    assert "examples.0.weight: number or null > 0  (default: null)" in text


@pytest.mark.parametrize("name", sorted(packaged()))
def test_a_resolved_recipe_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(packaged()[name])
    (tmp_path / "resolved.yaml").write_text(resolved(recipe), encoding="utf-8")
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again.model_dump(mode="json") == recipe.model_dump(mode="json")
    assert set(KINDS) >= {stage.kind for stage in again.stages.values()}


def test_an_old_name_is_not_listed() -> None:
    assert "tasks" not in ALL
    assert "puzzles" in ALL


def test_a_source_of_a_package_whose_type_is_any_text_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loose(BaseModel):
        type: str

    monkeypatch.setattr(TYPES, "names", lambda: ["loose"])
    monkeypatch.setattr(TYPES, "resolve", lambda name: Loose)
    assert kinds()["source types"] == ["loose"]


def test_the_reference_is_that_of_the_schema() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == "\n".join(page()) + "\n", "thinkling fields --markdown > docs/reference.md"
