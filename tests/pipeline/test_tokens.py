"""`thinkling tokens`: conversations as the model reads them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.stages.sft.chats import ChatsSource, chat, make_model
from thinkling.errors import UserError
from thinkling.pipeline import tokens
from thinkling.pipeline.recipe import Recipe
from thinkling.sources.models import ModelSource


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("start") / "model")


def recipe(model: Path, source: ChatsSource | None = None, **fields: Any) -> Recipe:
    stage = {
        "kind": "sft", "inputs": {"model": "start"}, "examples": [{"source": "a"}, {"source": "b"}], "epochs": 1,
        "sequence_length": 64, "batch_size": 1, "optimizer": {"lr": 1.0e-3},
    }  # fmt: skip
    sources = {
        "start": ModelSource(type="model", path=str(model)),
        "a": source or ChatsSource(rounds=2),
        "b": ChatsSource(words=(3,)),
    }
    later = stage | {"inputs": {"model": "sft"}}
    return Recipe.model_validate({"name": "x", "sources": sources, "stages": {"sft": stage | fields, "later": later}})


def shown(given: Recipe, stage: str | None = "sft", n: int = 3, coloured: bool = False) -> str:
    file = StringIO()
    console = Console(file=file, force_terminal=coloured, color_system="256" if coloured else None, soft_wrap=True)
    tokens.show(given, Path("runs"), stage, n, console)
    return file.getvalue()


def test_loss_is_in_brackets_where_there_are_no_colours(model: Path) -> None:
    lines = shown(recipe(model)).splitlines()
    assert lines[0].startswith("⟦loss⟧")
    assert lines[2].startswith("1/3  a  chats a0 · ")
    assert "4 turns, 2 by the assistant, 1 with loss" in lines[2], "the reasoning of the first round is dropped"
    text = "\n".join(lines)
    assert (
        "<|im_start|>user↵\nsay 1<|im_end|>↵\n<|im_start|>assistant↵\n⟦<think>↵\nx↵\n</think>↵\n↵\n1<|im_end|>⟧" in text
    )
    assert [line.split()[1] for line in lines if line.startswith(("1/3", "2/3", "3/3"))] == ["a", "b", "a"]


def test_colours_change_with_every_token_and_the_loss(model: Path) -> None:
    text = shown(recipe(model), n=1, coloured=True)
    assert "⟦" not in text
    assert "\x1b[2m<|im_start|>\x1b[0m" in text
    assert "\x1b[30;42m<think>\x1b[0m" in text or "\x1b[30;102m<think>\x1b[0m" in text


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"sequence_length": 16}, "OMITTED: longer than sequence_length"),
        ({"sequence_length": 40, "overlong": "truncate"}, "truncated to fit sequence_length"),
    ],
)
def test_what_becomes_of_long_ones_is_said(model: Path, fields: dict[str, Any], note: str) -> None:
    assert note in shown(recipe(model, **fields), n=1)


def test_data_do_not_steer_the_terminal(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = chat("evil\x1b[2J")
    evil.messages[0]["content"] = "\x1b]0;title\x07 say"  # pyright: ignore[reportIndexIssue]
    monkeypatch.setattr(ChatsSource, "conversations", lambda *given: iter([evil]))
    text = shown(recipe(model), n=1, coloured=True)
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "\x07" not in text


def test_an_input_that_is_not_made_yet_is_named(model: Path) -> None:
    with pytest.raises(UserError, match=r"stages\.later\.inputs\.model: stage sft has not finished in runs/x; run it"):
        shown(recipe(model), "later")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (None, "--stage: missing; specify a stage of kind sft; available: sft, later"),
        ("pretrain", "--stage pretrain: no stage of kind sft has this name; available: sft, later"),
    ],
)
def test_which_stage(model: Path, stage: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shown(recipe(model), stage)


def test_a_stage_without_conversations(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatsSource, "conversations", lambda *given: iter(()))
    with pytest.raises(UserError, match=r"stages\.sft: no conversations"):
        shown(recipe(model))
