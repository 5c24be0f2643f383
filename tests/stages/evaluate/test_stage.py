"""The whole stage on a random model: verdicts and grades side by side, a baseline, and settings that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from thinkling.data.artifact import Artifact, content_files
from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.generate.rollouts import write_rollouts
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.progress import Silent
from thinkling.puzzles import problemset
from thinkling.puzzles.pages import document
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.stages.base import StageContext
from thinkling.stages.evaluate import stage
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.evaluate.grades import read_grades

SOURCES = {
    "puzzles": PuzzlesSource(type="puzzles", families={"sort": {}, "maximum": {}}, heldout_per_family=3),
    "writing": PuzzlesSource(type="puzzles", families={"write": {}}, heldout_per_family=4),
    "both": PuzzlesSource(type="puzzles", families={"write": {}, "sort": {}}, heldout_per_family=2),
}
SETS = {"puzzles": {"source": "puzzles"}, "writing": {"source": "writing"}}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("start")
    problems = problemset.generate({"sort": {}, "write": {}}, "train", 40, seed=1)
    tokenizer = train_bpe([document(problem) for problem in problems], 268)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer.with_chat_template(OURS.source).save(directory / "tokenizer")
    save_pretrained(model, directory / "model", directory / "tokenizer", {})
    return directory / "model"


def run(directory: Path, start: Path, sets: dict[str, Any], baseline: Path | None = None, k: int = 2) -> Any:
    directory.mkdir()
    inputs = {"model": Artifact(start, {})} | ({"baseline": Artifact(baseline, {})} if baseline else {})
    config = EvaluateConfig.model_validate(
        {"kind": "evaluate", "inputs": dict.fromkeys(inputs, "x"), "task_sets": sets, "k": k, "max_new_tokens": 6}
    )
    ctx = StageContext(
        name=directory.name, directory=directory, inputs=inputs, seed=len(directory.name), sources=SOURCES
    )
    stage.run(config, ctx)
    return json.loads((directory / "scores.json").read_text())


def test_verdicts_and_grades_stand_side_by_side(tmp_path: Path, start: Path) -> None:
    puzzles, writing = run(tmp_path / "first", start, SETS)
    assert (puzzles["measure"], writing["measure"]) == ("right", "grade")
    assert set(puzzles) == set(writing)
    rows = read_grades(tmp_path / "first/grades/writing.parquet")
    assert len(rows) == 8
    assert writing["mean"] == pytest.approx(sum(row.grade for row in rows) / 8)
    assert not (tmp_path / "first/grades/puzzles.parquet").exists()


def test_a_model_draws_with_itself_whatever_the_stages_are_called(tmp_path: Path, start: Path) -> None:
    run(tmp_path / "one", start, SETS)
    puzzles, writing = run(tmp_path / "another", start, SETS, tmp_path / "one")
    assert writing["win_rate"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 4}
    assert "win_rate" not in puzzles
    assert "difference" not in writing
    assert puzzles["difference"]["low"] <= puzzles["difference"]["mean"] <= puzzles["difference"]["high"]


def test_two_models_on_the_same_problems_could_not_be_compared(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`no task set is graded by a rule; leave the baseline out`, although both had answered the same problems."""
    sets = {"puzzles": SETS["puzzles"]}
    sampled = stage.sample_and_score

    def judged(right: list[str]) -> Any:
        """Sampling after which the named outcomes are those of the samples, by turns."""

        def sample(*arguments: Any, **options: Any) -> Any:
            found = sampled(*arguments, **options)
            turned = [replace(r, outcome=right[i % len(right)]) for i, r in enumerate(found)]
            write_rollouts(options["store"] / "00000.parquet", turned)
            return turned

        return sample

    monkeypatch.setattr(stage, "sample_and_score", judged(["right", "wrong"]))
    run(tmp_path / "first", start, sets)
    monkeypatch.setattr(stage, "sample_and_score", judged(["right", "right", "right", "wrong"]))
    (better,) = run(tmp_path / "second", start, sets, tmp_path / "first", k=4)
    assert better["difference"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "n": 6}
    (alone,) = run(tmp_path / "third", start, sets)
    assert "difference" not in alone


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path, start: Path) -> None:
    for name in ("aa", "bb"):
        run(tmp_path / name, start, SETS)
    names = list(content_files(tmp_path / "aa"))
    assert names == list(content_files(tmp_path / "bb"))
    assert all((tmp_path / "aa" / n).read_bytes() == (tmp_path / "bb" / n).read_bytes() for n in names)


def test_what_does_not_fit_is_named(tmp_path: Path, start: Path) -> None:
    with pytest.raises(UserError, match=r"task_sets\.mixed: the verifiers of 'both' grade the answers of only some"):
        run(tmp_path / "a", start, {"mixed": {"source": "both"}})
    with pytest.raises(UserError, match="unknown renderer 'poems'; use one of chat, puzzle_answers, puzzle_pages"):
        run(tmp_path / "b", start, {"writing": {"source": "writing", "renderer": "poems"}})
    run(tmp_path / "c", start, {"puzzles": {"source": "puzzles"}})
    with pytest.raises(
        UserError, match=r"inputs\.baseline: task set 'both' of the baseline has different problems or is missing"
    ):
        run(tmp_path / "d", start, {"both": {"source": "puzzles"}}, tmp_path / "c")
    with pytest.raises(UserError, match=r"grades.writing\.parquet: cannot be read as Parquet"):
        run(tmp_path / "e", start, SETS, tmp_path / "c")
    run(tmp_path / "f", start, SETS, k=1)
    with pytest.raises(
        UserError, match=r"inputs\.baseline: task set 'writing' of the baseline has different problems or a different k"
    ):
        run(tmp_path / "g", start, SETS, tmp_path / "f")


def test_pages_are_continued_and_graded_too(tmp_path: Path, start: Path) -> None:
    """A grade is of what the renderer read, so it does not depend on how the model was asked."""
    (scores,) = run(tmp_path / "a", start, {"writing": {"source": "writing", "renderer": "puzzle_pages"}})
    assert (scores["renderer"], scores["measure"]) == ("puzzle_pages", "grade")
    assert len(read_grades(tmp_path / "a/grades/writing.parquet")) == 8


def test_a_score_that_max_new_tokens_decided_is_a_warning(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: a base model may well score 0, so evaluate goes on, but says so in the terminal and among the counts."""
    warnings: list[str] = []
    monkeypatch.setattr(Silent, "warn", lambda self, text: warnings.append(text))
    run(tmp_path / "fine", start, {"puzzles": {"source": "puzzles"}}, k=2)
    assert not warnings
    monkeypatch.setattr(Renderer, "stop_ids", frozenset())
    (scores,) = run(tmp_path / "cut", start, {"puzzles": {"source": "puzzles"}}, k=11)
    assert (scores["mean"], scores["truncated"]) == (0.0, 66)
    assert len(warnings) == 1
    assert warnings[0].startswith("stages.cut.task_sets.puzzles: all 66 samples were cut off by max_new_tokens 6;")
