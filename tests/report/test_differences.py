from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.rollout_files import sample, stage, write_rows
from thinkling.data.artifact import write_json
from thinkling.report.differences import Comparison, comparisons, signed
from thinkling.report.page import reach
from thinkling.report.read import Stage
from thinkling.stats import Difference, bootstrap_interval, difference


def evaluated(path: Path, answers: dict[str, list[bool]], task_set: str = "set", **score: Any) -> Stage:
    """An evaluation: problem → whether each of its samples is right. A problem's family is its first letter."""
    rows = [
        sample(problem, "right" if right else "wrong", family=problem[0], sample=i)
        for problem, found in answers.items()
        for i, right in enumerate(found)
    ]
    write_rows(path / "rollouts" / "set" / "00000.parquet", rows[:3])
    write_rows(path / "rollouts" / "set" / "00001.parquet", rows[3:] or rows[:0] or rows[-1:])
    values = {
        "task_set": task_set,
        "renderer": "chat",
        "measure": "right",
        "k": 2,
        "mean": 0.5,
        "low": 0.4,
        "high": 0.6,
    }
    write_json(path / "scores.json", [{**values, **score}])
    return stage(path)


FIRST = {"a1": [False, False], "a2": [True, False], "b1": [True, True]}
SECOND = {"a1": [True, False], "a2": [True, True], "b1": [True, False]}


def test_differences_are_paired_by_problem(tmp_path: Path) -> None:
    # The order of the problems differs; they are paired by their ids.
    stages = [evaluated(tmp_path / "one", FIRST), evaluated(tmp_path / "two", dict(reversed(SECOND.items())))]
    [found] = comparisons(stages)["set"]
    values = [0.5, 0.5, -0.5]
    assert (found.later, found.earlier, found.note) == ("model of two", "model of one", "")
    assert found.whole is not None
    assert found.whole.mean == pytest.approx(np.mean(values))
    assert (found.whole.low, found.whole.high) == bootstrap_interval(np.array(values))
    assert found.whole.n == 3
    assert {family: (d.mean, d.n) for family, d in found.families.items()} == {"a": (0.5, 2), "b": (-0.5, 1)}


def test_a_task_set_evaluated_once_has_no_differences(tmp_path: Path) -> None:
    assert comparisons([evaluated(tmp_path / "one", FIRST)]) == {}


def test_every_evaluation_is_compared_with_the_one_before(tmp_path: Path) -> None:
    stages = [evaluated(tmp_path / name, FIRST) for name in ("one", "two", "three")]
    found = comparisons(stages)["set"]
    assert [(c.later, c.earlier) for c in found] == [
        ("model of two", "model of one"),
        ("model of three", "model of two"),
    ]
    assert [c.whole for c in found] == [Difference(0, 0, 0, 3)] * 2


def test_other_problems_are_not_compared_and_the_page_says_so(tmp_path: Path) -> None:
    other = {"a1": [True, True], "c1": [True, True]}
    [found] = comparisons([evaluated(tmp_path / "one", FIRST), evaluated(tmp_path / "two", other)])["set"]
    assert found.whole is None
    assert found.families == {}
    assert found.note == "not compared: the problems differ (1 in common of 3 and 2)"


def test_samples_that_are_gone_are_not_compared(tmp_path: Path) -> None:
    stages = [evaluated(tmp_path / "one", FIRST), evaluated(tmp_path / "two", SECOND)]
    for path in (tmp_path / "one" / "rollouts" / "set").iterdir():
        path.unlink()
    [found] = comparisons(stages)["set"]
    assert (found.whole, found.note) == (None, "not compared: one stored no samples of this task set")


def test_verdicts_and_grades_are_not_compared(tmp_path: Path) -> None:
    stages = [evaluated(tmp_path / "one", FIRST), evaluated(tmp_path / "two", FIRST, measure="grade")]
    [found] = comparisons(stages)["set"]
    assert (found.whole, found.note) == (
        None,
        "not compared: one score is a mean of verdicts, and the other is a mean of grades",
    )


def test_grades_are_compared_as_grades(tmp_path: Path) -> None:
    stages = []
    for name, grade in (("one", 0.25), ("two", 0.75)):
        stages.append(evaluated(tmp_path / name, FIRST, measure="grade"))
        rows = [{"problem_id": p, "sample": i, "grade": grade} for p in FIRST for i in range(2)]
        write_rows(tmp_path / name / "grades" / "set.parquet", rows)
    [found] = comparisons(stages)["set"]
    assert found.whole == Difference(0.5, 0.5, 0.5, 3)
    assert list(found.families) == ["a", "b"]


def test_what_else_differs_is_said(tmp_path: Path) -> None:
    stages = [evaluated(tmp_path / "one", FIRST, renderer="pages", k=4), evaluated(tmp_path / "two", FIRST)]
    [found] = comparisons(stages)["set"]
    assert found.note == "asked by chat instead of pages, 2 samples per problem instead of 4"


def test_two_evaluations_of_one_model_are_named_by_their_stages(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    stages = [evaluated(tmp_path / "x" / "same", FIRST), evaluated(tmp_path / "same", SECOND)]
    renamed = Stage("warm", stages[1].path, stages[1].manifest)
    [found] = comparisons([stages[0], renamed])["set"]
    assert (found.later, found.earlier) == ("warm", "same")


def test_a_task_sets_name_leads_to_no_other_folder(tmp_path: Path) -> None:
    stages = [evaluated(tmp_path / name, FIRST, task_set="../rollouts/set") for name in ("one", "two")]
    [found] = comparisons(stages)["../rollouts/set"]
    assert found.note == "not compared: one stored no samples of this task set"


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    found = difference(values)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert found == difference(values)
    assert max(abs(found.low), abs(found.high)) <= reach([_comparison(found)]) + 1e-9


def _comparison(found: Difference) -> Comparison:
    return Comparison("later", "earlier", found, {}, "")


def test_direction_needs_an_interval_without_zero() -> None:
    ends = [(0.01, 0.05), (-0.05, -0.01), (-0.01, 0.05), (0.0, 0.05)]
    assert [Difference(0.03, low, high, 9).direction for low, high in ends] == ["up", "down", "", ""]


def test_signs() -> None:
    assert [signed(v) for v in (0.03, -0.012, 0.0, -0.0001, 1)] == ["+0.030", "−0.012", "0.000", "0.000", "+1.000"]


def test_the_axis_ends_at_a_tenth() -> None:
    assert reach([]) == pytest.approx(0.1)
    assert reach([_comparison(Difference(0.1, -0.02, 0.28, 9))]) == pytest.approx(0.3)
