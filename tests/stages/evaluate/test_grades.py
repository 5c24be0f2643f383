"""Grades in place of verdicts: means, families, comparisons, and the file between two evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.engine import FinishReason
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import summarise
from thinkling.puzzles.problemset import heldout
from thinkling.stages.evaluate.grades import (
    GradedSample,
    grade_rollouts,
    graded_score,
    read_grades,
    win_rate,
    write_grades,
)

PROBLEMS = heldout({"write": {}}, 5, 0)


def rollout(index: int, sample: int, text: str, finish_reason: FinishReason = "stop", thinks: bool = False) -> Rollout:
    problem = PROBLEMS[index]
    return Rollout(
        problem.id, "write", sample, problem.question, problem.answer, text, "wrong", "writing", "", thinks,
        finish_reason, [1], [2], [-1.0], [0], [False], Reading.of(text),
    )  # fmt: skip


def rows(grades: list[list[float]]) -> list[GradedSample]:
    return [GradedSample(PROBLEMS[i].id, s, g) for i, found in enumerate(grades) for s, g in enumerate(found)]


def test_a_score_by_grades() -> None:
    samples = [
        rollout(0, 0, PROBLEMS[0].answer, thinks=True),
        rollout(0, 1, "?"),
        rollout(1, 0, PROBLEMS[1].answer.removesuffix("!")),
        rollout(1, 1, PROBLEMS[1].answer, "length"),
    ]
    found = grade_rollouts(samples, PROBLEMS[:2], 2)
    assert [row.grade for row in found] == pytest.approx([1.0, 0.0, 2 / 3, 0.0])
    score = graded_score(summarise(samples), samples, found)
    assert score.mean == pytest.approx((0.5 + 1 / 3) / 2)
    assert score.low <= score.mean <= score.high
    assert (score.accuracy_thinking, score.per_family, score.n, score.k) == (1.0, {"write": score.mean}, 2, 2)


def test_wins_by_problem_and_ties_count_half() -> None:
    mine, other = rows([[1.0, 0.5], [0.2, 0.2]]), rows([[0.5, 0.5], [0.1, 0.3]])
    found = win_rate(mine, other)
    assert (found.mean, found.n) == ((0.75 + 0.5) / 2, 2)
    with pytest.raises(ValueError, match="different problems"):
        win_rate(mine, other[:-1])


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 4), min_size=1, max_size=5))
def test_two_sides_share_all_wins(grades: list[tuple[float, ...]]) -> None:
    mine, other = rows([list(g[:2]) for g in grades]), rows([list(g[2:]) for g in grades])
    assert win_rate(mine, other).mean + win_rate(other, mine).mean == pytest.approx(1)
    assert win_rate(mine, mine).mean == 0.5


def test_grades_survive_the_disk(tmp_path: Path) -> None:
    found = rows([[1.0, 0.3], [0.0, 0.7]])
    write_grades(tmp_path / "w.parquet", found)
    assert read_grades(tmp_path / "w.parquet") == found
    with pytest.raises(UserError, match=r"no\.parquet"):
        read_grades(tmp_path / "no.parquet")
