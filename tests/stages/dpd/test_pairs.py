"""Which samples become pairs, what is counted, and the file."""

from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.stages.dpd.config import PairsConfig
from thinkling.stages.dpd.pairs import by_problem, make_pairs, read_pairs, rejection, solved_by, usable, write_pairs
from thinkling.verify.verdict import Outcome

ROW = 16


def config(**fields: object) -> PairsConfig:
    return PairsConfig.model_validate({"max_new_tokens": 8} | fields)


def test_every_reason_once(make_rollout) -> None:
    long = list(range(ROW))
    student = [
        make_rollout("good", 0, "right"), make_rollout("good", 1, "wrong", [7]),
        make_rollout("knows", 0, "right"), make_rollout("knows", 1, "right"),
        make_rollout("unclear", 0, "right"), make_rollout("unclear", 1, "unverifiable"),
        make_rollout("cut", 0, "wrong", finish="length"),
        make_rollout("long", 0, "wrong", long), make_rollout("long", 1, "wrong", finish="length"),
        make_rollout("hard", 0, "wrong"),
        make_rollout("wordy", 0, "wrong"),
        make_rollout("close", 0, "right"), make_rollout("close", 1, "wrong"),
    ]  # fmt: skip
    teacher = [
        make_rollout("good", 0, "wrong"), make_rollout("good", 1, "right", [9]),
        make_rollout("hard", 0, "wrong"), make_rollout("hard", 1, "timeout"),
        make_rollout("wordy", 0, "right", long), make_rollout("wordy", 1, "right", long),
        make_rollout("close", 0, "right"), make_rollout("close", 1, "wrong"),
    ]  # fmt: skip
    teacher += [make_rollout("good", 2, "right", [9, 9])]
    pairs, counts = make_pairs(by_problem(student), by_problem(teacher), config(min_margin=0.1), ROW)
    assert counts == {
        "problems": 8, "kept": 1, "margin": 1, "student_not_wrong": 2, "student_too_long": 1, "student_truncated": 1,
        "teacher_not_right": 1, "teacher_too_long": 1, "pairs": 1,
    }  # fmt: skip
    assert counts["problems"] == sum(n for name, n in counts.items() if name not in ("problems", "pairs"))
    assert [(p.problem_id, p.chosen.tokens, p.rejected.tokens) for p in pairs] == [("good", [9], [7])]
    assert (pairs[0].chosen.sample, pairs[0].rejected.sample) == (1, 1)
    assert pairs[0].margin == pytest.approx(2 / 3 - 1 / 2)


def test_rejected_samples_differ_and_chosen_ones_start_again(make_rollout) -> None:
    student = by_problem([make_rollout("p", i, "wrong", tokens) for i, tokens in enumerate(([1], [1], [2], [3], [4]))])
    teacher = by_problem([make_rollout("p", i, "right", tokens) for i, tokens in enumerate(([8], [9]))])
    pairs, counts = make_pairs(student, teacher, config(pairs_per_problem=3), ROW)
    assert [(p.chosen.tokens, p.rejected.tokens) for p in pairs] == [([8], [1]), ([9], [2]), ([8], [3])]
    assert counts == {"problems": 1, "kept": 1, "pairs": 3}


def test_a_teacher_that_is_worse_makes_no_pair(make_rollout) -> None:
    student = by_problem([make_rollout("p", 0, "wrong"), make_rollout("p", 1, "right"), make_rollout("p", 2, "right")])
    teacher = by_problem([make_rollout("p", 0, "wrong"), make_rollout("p", 1, "right")])
    assert make_pairs(student, teacher, config(), ROW)[1] == {"problems": 1, "kept": 0, "margin": 1, "pairs": 0}


def test_what_was_cut_off_is_not_rejected(make_rollout) -> None:
    rollouts = [make_rollout("p", 0, "wrong", [3], "length"), make_rollout("p", 1, "wrong", [4])]
    assert [r.tokens for r in usable(rollouts, Outcome.WRONG, ROW)] == [[4]]
    assert rejection("student", rollouts[:1], Outcome.WRONG, ROW) == "student_truncated"


def test_solved_is_what_is_always_right(make_rollout) -> None:
    student = [
        make_rollout("always", 0, "right", [7]), make_rollout("always", 1, "right", [8]),
        make_rollout("mostly", 0, "right"), make_rollout("mostly", 1, "wrong"),
        make_rollout("long", 0, "right", list(range(ROW))), make_rollout("long", 1, "right", list(range(ROW))),
    ]  # fmt: skip
    assert [(r.problem_id, r.tokens) for r in solved_by(by_problem(student), ROW)] == [("always", [7])]


def test_a_failed_verifier_stops_the_stage(make_rollout) -> None:
    with pytest.raises(UserError, match="verifier exact failed on 1 of 2 samples"):
        by_problem([make_rollout("p", 0, "wrong"), make_rollout("p", 1, "error")])


def test_file_gives_back_what_was_written(tmp_path: Path, make_pair) -> None:
    pairs = [make_pair(0), make_pair(1, (None, None))]
    for name in ("a", "b"):
        write_pairs(tmp_path / name, pairs)
    assert read_pairs(tmp_path / "a") == pairs
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "c").write_bytes(b"no Parquet")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_pairs(tmp_path / "c")
