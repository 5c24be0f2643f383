from __future__ import annotations

from pathlib import Path

from tests.report.rollout_files import sample, stage, write_rows
from thinkling.data.artifact import write_json
from thinkling.report.rollouts import shown


def why(found: list) -> list[tuple[str, str, str]]:
    return [(one.why, one.table, one.row["text"]) for one in found]


def test_the_rule_takes_medians_and_the_longest_that_ended(tmp_path: Path) -> None:
    rows = [sample(f"p{i}", "right", "r" * i) for i in (9, 1, 5)]
    rows += [sample(f"p{i}", "wrong", "w" * i) for i in (2, 4, 6, 8)]
    rows += [sample("t1", "timeout", "t" * 30, thinks=True), sample("t2", "timeout", "t" * 20, thinks=True)]
    rows += [sample("t3", "timeout", "t" * 99, thinks=True, finish_reason="length")]
    write_rows(tmp_path / "rl" / "rollouts" / "00010" / "00000.parquet", rows[:4])
    write_rows(tmp_path / "rl" / "rollouts" / "00010" / "00001.parquet", rows[4:])
    assert why(shown(stage(tmp_path / "rl", "rl"))) == [
        ("right, of median length", "00010", "r" * 5),
        ("wrong, of median length", "00010", "w" * 4),
        ("thinks, the longest that ended by itself", "00010", "t" * 30),
    ]


def test_ties_go_to_the_smaller_problem_then_sample(tmp_path: Path) -> None:
    rows = [sample(p, "right", "same", sample=s, thinks=True) for p, s in (("b", 0), ("a", 1), ("a", 0))]
    write_rows(tmp_path / "rl" / "rollouts" / "00000" / "00000.parquet", rows)
    found = [(one.row["problem_id"], one.row["sample"]) for one in shown(stage(tmp_path / "rl", "rl"))]
    # The median of three; then the smallest that is not shown already.
    assert found == [("a", 1), ("a", 0)]


def test_rl_shows_its_last_step_and_fills_up_from_those_before(tmp_path: Path) -> None:
    store = tmp_path / "rl" / "rollouts"
    write_rows(store / "00000" / "00000.parquet", [sample("p", "wrong", "old"), sample("q", "right", "old")])
    write_rows(store / "00030" / "00000.parquet", [sample("p", "right", "new")])
    found = shown(stage(tmp_path / "rl", "rl"))
    assert [(one.title, one.row["text"]) for one in found] == [
        ("right, of median length, step 30", "new"),
        ("wrong, of median length, step 0", "old"),
    ]


def test_an_evaluation_shows_its_first_task_set(tmp_path: Path) -> None:
    for name in ("a", "z"):
        write_rows(tmp_path / "e" / "rollouts" / name / "00000.parquet", [sample("p", "right", name)])
    write_json(tmp_path / "e" / "scores.json", [{"task_set": "z"}, {"task_set": "a"}])
    assert [one.title for one in shown(stage(tmp_path / "e"))] == ["right, of median length, z"]


def test_where_all_thoughts_were_cut_off_it_says_so(tmp_path: Path) -> None:
    rows = [sample(f"p{i}", "wrong", "w" * i, thinks=True, finish_reason="length") for i in (1, 2, 3)]
    write_rows(tmp_path / "rl" / "rollouts" / "00000" / "00000.parquet", rows)
    assert [one.why for one in shown(stage(tmp_path / "rl", "rl"))] == [
        "wrong, of median length",
        "thinks, the longest; all were cut off",
    ]


def test_token_columns_are_not_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "rl" / "rollouts" / "00000" / "00000.parquet", [sample("p", "right", tokens=[1, 2])])
    [one] = shown(stage(tmp_path / "rl", "rl"))
    assert "tokens" not in one.row
    assert one.row["question"] == "q"


def test_stages_without_such_samples_show_none(tmp_path: Path) -> None:
    assert shown(stage(tmp_path / "sft", "sft")) == []
    write_rows(tmp_path / "e" / "rollouts" / "set" / "00000.parquet", [{"text": "of another form"}])
    assert shown(stage(tmp_path / "e")) == []
