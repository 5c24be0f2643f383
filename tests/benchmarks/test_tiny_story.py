"""Differences over seeds and problems, and where a gain comes from, on runs with known samples."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.recipe.tiny_story import better, gain, score_of
from thinkling.data.tables import write_table
from thinkling.stages.evaluate.grades import SCHEMA


def evaluation(run: Path, stage: str, right: dict[str, float], thinks: float = 1.0) -> None:
    """Ten samples for each problem, of which the first `right` fraction is right and the first `thinks` fraction
    thinks."""
    rows = [
        {
            "problem_id": problem,
            "family": problem[0],
            "outcome": "right" if i < round(10 * fraction) else "wrong",
            "thinks": i < round(10 * thinks),
        }
        for problem, fraction in right.items()
        for i in range(10)
    ]
    folder = run / f"{stage}-01234567" / "rollouts" / "puzzles"
    folder.mkdir(parents=True)
    (folder.parents[1] / "manifest.json").write_text("{}")
    pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two seeds: the first gains 0.2 on both problems, the second 0.1 on one of them."""
    made = [tmp_path / "tiny", tmp_path / "tiny-seed1"]
    evaluation(made[0], "before", {"a1": 0.4, "b1": 0.6})
    evaluation(made[0], "after", {"a1": 0.6, "b1": 0.8})
    evaluation(made[1], "before", {"a1": 0.5, "b1": 0.5}, thinks=0.5)
    evaluation(made[1], "after", {"a1": 0.5, "b1": 0.6})
    return made


def test_a_gain_is_paired_by_seed(runs: list[Path]) -> None:
    found = gain(runs, "before", "after", "puzzles")
    assert found["runs"] == pytest.approx([0.2, 0.05])
    assert found["value"] == pytest.approx(0.125)
    assert found["low"] < 0 < found["value"] < found["high"]  # two seeds say little
    assert found["over_problems"]["n"] == 2


def test_a_gain_by_thinking_more_often_is_not_one_by_thinking_better(runs: list[Path]) -> None:
    found = better(runs, "before", "after")
    assert found["runs"][0] == pytest.approx(0.2)
    assert found["more_often"][0] == 0
    assert found["runs"][1] < 0 < found["more_often"][1]
    assert found["runs"][1] + found["more_often"][1] + found["direct"][1] == pytest.approx(0.05)


def test_grades_are_the_score_where_there_are_any(tmp_path: Path) -> None:
    evaluation(tmp_path, "graded", {"a1": 0.0, "b1": 0.0})
    rows = [{"problem_id": p, "sample": i, "grade": g} for p, g in (("b1", 0.5), ("a1", 1.0)) for i in range(2)]
    target = tmp_path / "graded-01234567" / "grades" / "puzzles.parquet"
    target.parent.mkdir()
    write_table(target, rows, SCHEMA)
    assert score_of(tmp_path, "graded", "puzzles").tolist() == [1.0, 0.5]
