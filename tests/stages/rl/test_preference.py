"""rl by preference: rewards of groups, the band against a reference, the whole stage, and resumption after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.stages.rl.conftest import stop_at_every_token
from thinkling.data.artifact import Artifact, content_files
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate import score
from thinkling.generate.engine import FinishReason
from thinkling.generate.pairwise import Comparison, PairwiseModel
from thinkling.generate.rollouts import Rollout
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.stages.base import StageContext
from thinkling.stages.rl import stage as rl_stage
from thinkling.stages.rl.band import preference_rates
from thinkling.stages.rl.collect import Collector
from thinkling.stages.rl.config import BandConfig, RlConfig
from thinkling.stages.rl.rewards import PreferenceRewards
from thinkling.verify.preference import LOWEST, Preference
from thinkling.verify.verdict import Outcome

PROBLEMS = generate({"write": {}}, "train", 3, 0)


class Longer:
    """Stands in for a pairwise model: prefers the longer answer, one nat a letter, and the first place by one nat."""

    def answer(self, reading: Reading) -> str | None:
        return reading.line

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        found = []
        for c in comparisons:
            gain = None if c.answer is None else len(c.answer) - len(c.reference)
            found.append(LOWEST if gain is None else Preference(gain + 1.0, -gain + 1.0))
        return found


def rollout(index: int, sample: int, text: str, finish_reason: FinishReason = "stop") -> Rollout:
    problem = PROBLEMS[index]
    return Rollout(
        problem.id, "write", sample, problem.question, problem.answer, text, "wrong", "writing", "", False,
        finish_reason, [1], [2], [-1.0], [0], [False], Reading("", None if "<think>" in text else text or None),
    )  # fmt: skip


def judge() -> PairwiseModel:
    return Longer()  # type: ignore[return-value]


def test_rewards_are_probabilities_of_being_preferred() -> None:
    problem = PROBLEMS[0]
    group = [rollout(0, i, text) for i, text in enumerate(["ABC", "AB", "", "<think>\nA"])]
    group.append(rollout(0, 4, "ABCDEFG", "length"))
    judged = PreferenceRewards(judge(), {problem.id: problem.answer[:2]})([(problem, group)])
    ((longer, equal, *nothing),) = judged.rewards
    assert longer == pytest.approx(0.7310586)
    assert equal == 0.5
    assert nothing == [0.0, 0.0, 0.0]
    assert judged.figures["preference_consistent"] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert judged.figures["rule_grade"][2:] == [0.0, 0.0, 0.0]
    assert judged.figures["rule_win_rate"][2:] == [0.0, 0.0, 0.0]


def test_the_first_sample_is_the_reference_of_the_others() -> None:
    samples = [
        *(rollout(0, i, text) for i, text in enumerate(["AB", "ABC", "A", "AB", "ABCD"])),
        *(rollout(1, i, text) for i, text in enumerate(["A", "ABC", "AB", "AC", "ABCD"])),
        *(rollout(2, i, text) for i, text in enumerate(["<think>\n", "ABC", "A", "AB", "ABCD"])),
    ]
    rows = preference_rates("w", samples, BandConfig(samples=4), judge())
    assert [(r.passes, r.undecided, r.samples, r.kept, r.reference) for r in rows] == [
        (2, 0, 4, True, "AB"),
        (4, 0, 4, False, "A"),
        (0, 4, 4, False, None),
    ]
    cut_off = [replace(samples[0], finish_reason="length"), *samples[1:5]]
    assert preference_rates("w", cut_off, BandConfig(samples=4), judge())[0].reference is None


def settings(**fields: Any) -> RlConfig:
    return RlConfig.model_validate(
        {
            "kind": "rl",
            "inputs": {"model": "start", "preference_model": "start"},
            "problems": [
                {"source": "writing", "n_problems": 12, "weight": 0.7, "rewards": {"preference": 1}},
                {"source": "puzzles", "n_problems": 12, "weight": 0.3},
            ],
            "band": {"samples": 4, "low": 0.0, "high": 1.0, "min_prompts": 1},
            "preference_form": "puzzles",
            "steps": 4,
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "max_new_tokens": 3,
            "optimizer": {"name": "adamw", "lr": 3e-3},
            "checkpoint_every": 2,
            "rollouts_every": 3,
        }
        | fields
    )


def context(directory: Path, start: Path) -> StageContext:
    directory.mkdir(exist_ok=True)
    sources = {
        "writing": PuzzlesSource(type="puzzles", families={"write": {}}),
        "puzzles": PuzzlesSource(type="puzzles", families={"sort": {"min_length": 2, "max_length": 3}}),
    }
    inputs = {"model": Artifact(start, {}), "preference_model": Artifact(start, {})}
    return StageContext(name="rl_preference", directory=directory, inputs=inputs, seed=5, sources=sources)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token ends a sample, and half of the puzzles' answers count as right: random weights have no skills."""
    judge = score.judge

    def judged(samples: Sequence[Any]) -> Any:
        found = judge(samples)
        return [
            replace(v, outcome=Outcome.RIGHT if reading.text and ord(reading.text[0]) < 100 else Outcome.WRONG)
            for v, (_, reading, _) in zip(found, samples, strict=True)
        ]

    stop_at_every_token(monkeypatch)
    monkeypatch.setattr(score, "judge", judged)


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("step", [0, 3])
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole, cut = context(tmp_path / "whole", start), context(tmp_path / "cut", start)
    rl_stage.run(settings(), whole)
    collect = Collector.collect

    def dying(self: Collector, number: int) -> Any:
        found = collect(self, number)
        if number == step:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "collect", dying)
        with pytest.raises(KeyboardInterrupt):
            rl_stage.run(settings(), cut)
    cut = context(tmp_path / "cut", start)
    rl_stage.run(settings(), cut)
    assert cut.counts == whole.counts
    names = list(content_files(whole.directory))
    assert list(content_files(cut.directory)) == names
    assert all((cut.directory / n).read_bytes() == (whole.directory / n).read_bytes() for n in names)


@pytest.mark.usefixtures("stopping")
def test_the_log_tells_judge_and_rule_and_the_band_its_references(tmp_path: Path, start: Path) -> None:
    ctx = context(tmp_path / "r", start)
    rl_stage.run(settings(), ctx)
    lines = [json.loads(line) for line in (ctx.directory / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["reward_writing"] < 1 for line in lines)
    assert all(0 <= line["rule_grade"] <= 1 and 0 <= line["rule_win_rate"] <= 1 for line in lines)
    assert all(0 <= line["preference_consistent"] <= 1 for line in lines)
    band = pq.read_table(ctx.directory / "band.parquet").to_pylist()
    writing, puzzles = ([row for row in band if row["source"] == name] for name in ("writing", "puzzles"))
    assert len(writing) == 12
    assert all((row["reference"] is None) == (row["undecided"] == 4) for row in writing)
    assert all(row["reference"] is None for row in puzzles)
    counts = ctx.counts["writing"]
    assert counts["problems"] == 12 == counts["kept"] + counts["too_hard"] + counts["too_easy"] + counts["undecided"]


@pytest.mark.usefixtures("stopping")
def test_an_empty_band_fails_with_its_histogram(tmp_path: Path, start: Path) -> None:
    tight = settings(band={"samples": 4, "low": 0.45, "high": 0.49, "min_prompts": 1})
    with pytest.raises(
        UserError, match=r"rl_preference\.band: 0 of 12 problems of 'writing'.*by number of correct samples"
    ):
        rl_stage.run(tight, context(tmp_path / "r", start))


def test_a_judge_is_named_if_and_only_if_it_is_needed() -> None:
    with pytest.raises(
        ValueError, match=r"inputs\.preference_model is missing: source 'writing' has the reward preference"
    ):
        settings(inputs={"model": "start"})
    verdicts = [{"source": "puzzles", "n_problems": 12}]
    with pytest.raises(ValueError, match=r"inputs\.preference_model: no source has the reward preference"):
        settings(problems=verdicts)
    settings(problems=verdicts, inputs={"model": "start"})
