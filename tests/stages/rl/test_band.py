"""Bounds of the band, its rows, and the message of an empty one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.generate.rollouts import Rollout
from thinkling.stages.rl import band
from thinkling.stages.rl.band import check, histogram, inside, pass_rates, read, write
from thinkling.stages.rl.config import BandConfig, RlConfig


def rollout(problem: str, sample: int, outcome: str) -> Rollout:
    return Rollout(
        problem,
        "sort",
        sample,
        f"sort {problem}",
        "1",
        "1",
        outcome,
        "exact",
        "",
        True,
        "stop",
        [1],
        [2],
        [-1.0],
        [0],
        [False],
    )


def rollouts(passes: dict[str, int], samples: int = 16) -> list[Rollout]:
    return [rollout(p, i, "right" if i < n else "wrong") for p, n in passes.items() for i in range(samples)]


def test_sixteen_samples_keep_two_to_fourteen() -> None:
    assert [n for n in range(17) if inside(n, 16, 0.1, 0.9)] == list(range(2, 15))


@given(st.integers(2, 64))
def test_bounds_are_strict(samples: int) -> None:
    assert not inside(0, samples, 0.0, 1.0)
    assert not inside(samples, samples, 0.0, 1.0)
    assert all(inside(n, samples, 0.0, 1.0) for n in range(1, samples))
    assert not inside(1, 10, 0.1, 0.9)
    assert not inside(9, 10, 0.1, 0.9)


def test_rows_survive_the_disk(tmp_path: Path) -> None:
    rows = pass_rates("p", rollouts({"a": 1, "b": 2, "c": 14, "d": 15}), BandConfig())
    assert [row.kept for row in rows] == [False, True, True, False]
    (tmp_path / "chunks").mkdir()
    write(tmp_path / "band.parquet", rows, tmp_path / "chunks")
    assert read(tmp_path / "band.parquet") == rows
    assert not (tmp_path / "chunks").exists()


def test_an_undecided_sample_leaves_the_problem_out() -> None:
    found = [*rollouts({"a": 8}, 15), rollout("a", 15, "timeout")]
    (row,) = pass_rates("p", found, BandConfig())
    assert (row.passes, row.undecided, row.kept) == (8, 1, False)


def test_a_verifier_that_never_works_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [replace(rollout("a", i, "error"), detail="sandbox: no Landlock") for i in range(2)]
    monkeypatch.setattr(band, "sample_and_score", lambda *_, **__: failed)
    nothing: Any = None
    with pytest.raises(UserError, match=r"problems.code: .* on all 2 samples \(sandbox: no Landlock\)"):
        band.measure("code", [], nothing, BandConfig(), 0, tmp_path / "chunks")


def test_too_few_prompts_end_with_the_histogram() -> None:
    rows = pass_rates("puzzles", rollouts({"a": 0, "b": 0, "c": 5, "d": 16}), BandConfig())
    assert histogram(rows) == {n: {0: 2, 5: 1, 16: 1}.get(n, 0) for n in range(17)}
    check("rl", "puzzles", rows, BandConfig(min_prompts=1))
    with pytest.raises(UserError, match=r"stages\.rl\.band: 1 of 4 .*0:2 5:1 16:1"):
        check("rl", "puzzles", rows, BandConfig(min_prompts=2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"band": {"low": 0.9, "high": 0.1}},
        {"smallest_group": 9},
        {"updates_per_batch": 5},
        {"problems": [{"source": "p", "n_problems": 1}] * 2},
        {"spikes": {"action": "roll_back"}},
        {"spikes": {"loss_factor": 2.0}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict) -> None:
    good = {
        "kind": "rl", "problems": [{"source": "p", "n_problems": 1}], "steps": 1, "prompts_per_step": 4,
        "max_new_tokens": 8, "optimizer": {},
    }  # fmt: skip
    RlConfig.model_validate(good)
    with pytest.raises(ValueError, match=r"low|smallest_group|updates_per_batch|twice|spikes\.(action|loss_factor)"):
        RlConfig.model_validate(good | wrong)
