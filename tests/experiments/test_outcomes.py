"""What is read off finished stages, and what seeds amount to together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments import gather, outcomes
from experiments.arms import EXPERIMENTS, HQ
from thinkling.data.artifact import Artifact
from thinkling.generate.rollouts import Rollout, write_rollouts
from thinkling.generate.score import summarise
from thinkling.stats import t_interval


def _rollout(problem: int, sample: int, thinks: bool, right: bool) -> Rollout:
    return Rollout(
        problem_id=f"{problem:02d}", family="sum" if problem % 2 else "sort", sample=sample, question="q",
        reference="1", text="1", outcome="right" if right else "wrong", tier="exact", detail="", thinks=thinks,
        finish_reason="stop", prompt=[1], tokens=[2], logprobs=[0.0], versions=[0], forced=[False],
    )  # fmt: skip


def _scores(path: Path, seed: int) -> Artifact:
    """Scores of 6 problems × 4 samples drawn from a seed."""
    rng = np.random.default_rng(seed)
    rollouts = [_rollout(p, s, bool(rng.random() < 0.6), bool(rng.random() < 0.5)) for p in range(6) for s in range(4)]
    (path / "rollouts" / "puzzles").mkdir(parents=True)
    write_rollouts(path / "rollouts" / "puzzles" / "00000.parquet", rollouts)
    score = summarise(rollouts)
    entry = {"task_set": "puzzles", "mean": score.mean, "thinking_fraction": score.thinking_fraction}
    entry |= {"accuracy_thinking": score.accuracy_thinking, "per_family": score.per_family}
    (path / "scores.json").write_text(json.dumps([entry]), encoding="utf-8")
    return Artifact(path, {})


def test_a_score_is_read_with_its_problems_and_families(tmp_path: Path) -> None:
    found = outcomes.score_outcome(_scores(tmp_path, 1))
    assert len(found["problems"]) == 6
    assert np.mean(found["problems"]) == pytest.approx(found["value"])
    samples, thinking, right_thinking, right_direct = (sum(c) for c in zip(*found["families"].values(), strict=True))
    assert samples == 24
    assert thinking / samples == pytest.approx(found["thinking_fraction"])
    assert right_thinking / thinking == pytest.approx(found["accuracy_thinking"])
    assert (right_thinking + right_direct) / samples == pytest.approx(found["value"])


def test_the_loss_weighs_high_quality_sources_after_the_last_phase(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    for number, (phase, loss) in enumerate((("stable", 9.0), ("decay", 2.0))):
        losses = {"phase": phase, "hq-pages": loss, "hq-docstrings": 2 * loss, "mq-topics": 100.0}
        (tmp_path / "validation" / f"{number}.json").write_text(json.dumps(losses), encoding="utf-8")
    steps = [
        ("stable", {"hq-pages": 3, "mq-topics": 5}),
        ("stable", {"hq-pages": 4, "mq-topics": 4}),
        ("decay", {"hq-pages": 8}),
    ]
    lines = [json.dumps({"step": i, "phase": phase, "rows": rows}) for i, (phase, rows) in enumerate(steps)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = outcomes.loss_outcome(Artifact(tmp_path, {"counts": {"sources": {"hq-pages": {"rows": 15}}}}), HQ)
    assert found["value"] == pytest.approx(0.8 * 4 + 0.2 * 2)
    assert found["plateau_rows"] == {"hq-pages": 7, "mq-topics": 9}


def _results(tmp_path: Path, seeds: int) -> list[dict[str, Any]]:
    def entry(arm: str, seed: int) -> dict[str, Any]:
        score = outcomes.score_outcome(_scores(tmp_path / f"{arm}-{seed}", 10 * seed + len(arm)))
        return {"overrides": [], "seconds": {arm: 1.5}, **score}

    return [{"seed": s, "arms": {"sft": entry("sft", s), "rl": entry("rl", s)}} for s in range(seeds)]


def test_the_report_holds_differences_intervals_and_the_split(tmp_path: Path) -> None:
    results = _results(tmp_path, 3)
    rl = EXPERIMENTS["rl"]
    report = gather.write(rl, results[::-1], Path("experiments/recipe.yaml"), tmp_path)
    assert json.loads((tmp_path / "experiment-rl" / "experiment.json").read_text(encoding="utf-8")) == report
    assert report["seeds"] == [0, 1, 2]
    (comparison,) = report["comparisons"]
    wanted = [r["arms"]["rl"]["value"] - r["arms"]["sft"]["value"] for r in results]
    assert comparison["differences"] == pytest.approx(wanted)
    _, low, high = t_interval(wanted)
    assert (comparison["low"], comparison["high"]) == (pytest.approx(low), pytest.approx(high))
    problems = comparison["over_problems"]
    assert problems["mean"] == pytest.approx(np.mean(wanted))
    assert problems["low"] <= problems["mean"] <= problems["high"]
    assert problems["n"] == 6
    for split, gain in zip(comparison["split"], wanted, strict=True):
        assert split["total"] == pytest.approx(gain)
        assert split["more_often"] + split["better"] + split["direct"] == pytest.approx(gain)
    assert "problems" not in report["arms"][0]["seeds"][0]


def test_tables_show_every_arm(tmp_path: Path) -> None:
    report = gather.write(EXPERIMENTS["rl"], _results(tmp_path, 2), Path("experiments/recipe.yaml"), tmp_path)
    console = Console(width=220, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    gather.show(report, console)
    text = console.export_text()
    assert "rl − sft" in text
    assert "thinks more often" in text
    assert f"{report['comparisons'][0]['mean']:+.3f}" in text
