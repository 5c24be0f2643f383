"""Seeds run for real, with models that learn nothing much: arms share what is equal, and what is done is skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from experiments import arms, gather, running, seed
from experiments.arms import EXPERIMENTS
from thinkling.errors import UserError

FG_WSD = EXPERIMENTS["fg-wsd"]
QUIET = Console(quiet=True)


@pytest.fixture
def small(recipe_data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe with own text for Python's, and rows of 16 tokens."""
    for name in ("docstrings", "topics"):
        texts = [f"{name} {i} tells of the {i * 37 % 101}th thing and how to use it" for i in range(300)]
        lines = [json.dumps({"text": text}) for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        recipe_data["sources"][name] = {"type": "jsonl", "paths": [str(tmp_path / f"{name}.jsonl")]}
    recipe_data["tokenizer"] = {"vocab_size": 300}
    recipe_data["stages"]["pretrain"] |= {"sequence_length": 16, "default_max_epochs": 100, "checkpoint_every": 200}
    monkeypatch.setattr(arms, "PHASES", (("warm-up", 1), ("first", 1), ("second", 2), ("decay", 1)))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe_data, sort_keys=False), encoding="utf-8")
    return path


def test_fg_wsd_arms_see_equal_tokens_and_go_on_where_they_were_cut_off(small: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def kill(line: str) -> None:
        told.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed.run_seed(FG_WSD, small, 3, tmp_path / "runs", QUIET, kill)
    result = seed.run_seed(FG_WSD, small, 3, tmp_path / "runs", QUIET, told.append)
    assert told[0].startswith("seed 3: wsd done, ")
    assert told[1] == "seed 3: wsd done, already finished"
    assert [line.split()[2] for line in told[2:]] == ["fg_equal", "fg_rich"]
    found = result["arms"]
    assert list(found) == ["wsd", "fg_equal", "fg_rich"]
    for key in ("plateau_rows", "sources"):
        assert found["wsd"][key] == found["fg_equal"][key]
    assert found["fg_rich"]["plateau_rows"]["hq-pages"] > found["wsd"]["plateau_rows"]["hq-pages"]
    assert len({arm["value"] for arm in found.values()}) == 3
    directory = tmp_path / "runs" / "experiments" / "seed-3"
    assert len(list(directory.glob("tokenize-*"))) == 1
    assert len(list(directory.glob("pretrain-*"))) == 3

    stamps = {p: p.stat().st_mtime_ns for p in directory.glob("pretrain-*/manifest.json")}
    again = seed.run_seed(FG_WSD, small, 3, tmp_path / "runs", QUIET, told.append)
    assert again == result
    assert stamps == {p: p.stat().st_mtime_ns for p in directory.glob("pretrain-*/manifest.json")}
    assert told[-1] == "seed 3: fg_rich done, already finished"

    report = gather.write(FG_WSD, [result], small, tmp_path / "runs")
    assert report["comparisons"][0]["differences"] == [found["fg_equal"]["value"] - found["wsd"]["value"]]
    assert report["comparisons"][0]["low"] is None
    gather.show(report, QUIET)


def test_arms_that_saw_other_rows_are_refused() -> None:
    arm = {"plateau_rows": {"hq-pages": 3}, "sources": {}}
    other = {"plateau_rows": {"hq-pages": 4}, "sources": {}}
    FG_WSD.check({"wsd": arm, "fg_equal": arm})
    with pytest.raises(RuntimeError, match="plateau_rows"):
        FG_WSD.check({"wsd": arm, "fg_equal": other})


def test_a_seed_that_fails_is_told_and_the_command_can_be_given_again(small: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(small.read_text(encoding="utf-8"))
    data["stages"]["pretrain"]["max_epochs"] = {"hq-pages": 0.0001}
    small.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match="1 of 1 seeds failed"):
        running.run(FG_WSD, small, [0], 1, tmp_path / "runs", QUIET)
    assert "max_epochs" in (tmp_path / "runs" / "experiment-fg-wsd" / "seed-0.log").read_text(encoding="utf-8")
    assert not (tmp_path / "runs" / "experiment-fg-wsd" / "experiment.json").exists()
