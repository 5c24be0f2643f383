"""Chat templates of the user's models, checked before stage 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.pipeline import doctor, plan
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute


@pytest.fixture
def model(tmp_path: Path) -> Path:
    train_bpe(["a b "], 265).save(tmp_path / "tokenizer")
    shape = ModelConfig(
        architecture="llama",
        vocab_size=265,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
    )
    save_pretrained(Decoder(shape), tmp_path / "model", tmp_path / "tokenizer")
    return tmp_path / "model"


def run_of(model: Path, **chat: Any) -> Run:
    stage = {
        "kind": "evaluate",
        "inputs": {"model": "mine"},
        "task_sets": {"sums": {"source": "p"}},
        "max_new_tokens": 4,
        **({"chat": chat} if chat else {}),
    }
    sources = {"mine": {"type": "model", "path": str(model)}, "p": {"type": "puzzles", "families": {"sum": {}}}}
    recipe = model.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "mine", "sources": sources, "stages": {"scores": stage}}))
    return Run(load_recipe(recipe), model.parent / "runs")


def test_a_model_without_a_template_is_named_before_anything_runs(model: Path) -> None:
    run, console = run_of(model), Console(quiet=True)
    message = r"stages\.scores\.chat: .*model: no chat template; add chat_template\.jinja, or set `chat: "
    with pytest.raises(UserError, match=message):
        execute(run, console)
    with pytest.raises(UserError, match=message):
        plan.show(run.recipe, model.parent / "runs", console)
    assert [f.detail for f in doctor.examine(run.recipe) if f.level == "missing" and "no chat template" in f.detail]
    assert not (model.parent / "runs" / "mine").exists()
    plan.show(run_of(model, template="thinkling").recipe, model.parent / "runs", console)


def test_a_template_that_asks_for_the_date_is_named_before_anything_runs(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ strftime_now('%Y') }}{{ messages[0].content }}<|im_end|>")
    with pytest.raises(UserError, match=r"stages\.scores\.chat: .* set chat\.variables\.date"):
        execute(run_of(model), Console(quiet=True))


def test_the_file_of_a_template_decides_the_stages_hash(model: Path) -> None:
    path, found = model.parent / "t.jinja", []
    for text in ("one", "two", "one"):
        path.write_text(text)
        run = run_of(model, template=str(path))
        found.append(run.resolved("scores")["raw"]["chat.template"])
    assert found[0] == found[2] != found[1]
    path.unlink()
    with pytest.raises(UserError, match=r"t\.jinja: no such file"):
        run_of(model, template=str(path)).resolved("scores")
