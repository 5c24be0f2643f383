"""What every source has, and what a recipe checks of it."""

from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.pipeline.recipe import read_source
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.sources.base import bound
from thinkling.sources.python_stdlib import StdlibSource


def test_a_source_says_what_it_lacks() -> None:
    sources = bound({"text": StdlibSource(type="python_stdlib", part="topics")})
    with pytest.raises(
        UserError, match=r"sources\.text: a source of type python_stdlib offers documents, not problems"
    ):
        sources["text"].problems("train", 3)
    with pytest.raises(
        UserError, match=r"sources\.text: a source of type python_stdlib offers documents, not conversations"
    ):
        sources["text"].conversations(3, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("x", r"sources\.s: a source must be a mapping"),
        ({}, r"sources\.s: type is missing; the known types are text, jsonl"),
        ({"type": "texts"}, r"sources\.s\.type: unknown type of source 'texts'"),
        ({"type": "text"}, r"sources\.s\.paths: missing"),
        ({"type": "text", "paths": ["a"], "pathes": 1}, r"sources\.s\.pathes: unknown key; did you mean 'paths'\?"),
        ({"type": "puzzles", "families": {"summ": {}}}, r"sources\.s: families: unknown family 'summ'"),
        ({"type": "puzzles", "families": {"sum": {"x": 1}}}, r"sources\.s: families: family sum: unknown knob 'x'"),
    ],
)
def test_mistakes_in_a_source_name_its_field(fields: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_source("s", fields)


def test_problems_are_drawn_evenly_over_families() -> None:
    puzzles = bound({"p": PuzzlesSource(type="puzzles", families={"sum": {}, "sort": {}, "mod": {}})})["p"]
    found = [problem.family for problem in puzzles.problems("train", 7, seed=1)]
    assert found == ["sum"] * 3 + ["sort"] * 2 + ["mod"] * 2
    chosen = puzzles.problems("train", 4, seed=1, families=["mod"])
    assert [problem.family for problem in chosen] == ["mod"] * 4
    with pytest.raises(UserError, match=r"sources\.p: unknown family 'calc'; use one of sum, sort, mod"):
        puzzles.problems("train", 4, seed=1, families=["calc"])


def test_summaries_for_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    text = read_source("t", {"type": "text", "paths": [str(tmp_path / "*.txt")]})
    assert text.summary() == "1 files"
    with pytest.raises(UserError, match=r"no config\.json"):
        read_source("m", {"type": "model", "path": str(tmp_path)}).summary()
    assert read_source("n", {"type": "tokens", "tokens": 5}).summary() is None
