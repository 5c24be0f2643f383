"""Problems in MBPP's form."""

import json
from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.sources.mbpp import read_mbpp

RECORD = {
    "text": "Write a function to add.\r\n", "code": "def add(a, b):\r\n  return a + b", "task_id": 7,
    "test_setup_code": "", "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "challenge_test_list": ["assert add(-1, 1) == 0"],
}  # fmt: skip


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


def test_first_test_is_public(tmp_path: Path) -> None:
    (problem,) = read_mbpp([write(tmp_path / "a.jsonl", RECORD)])
    assert problem.question == "Write a function to add.\nYour code has to pass this test:\nassert add(1, 2) == 3"
    assert problem.answer == "def add(a, b):\n  return a + b"
    assert problem.tests == ("assert add(1, 2) == 3",)
    assert problem.hidden_tests == ("assert add(0, 0) == 0", "assert add(-1, 1) == 0")
    assert problem.verifier == "program"


def test_setup_runs_first_and_is_not_shown(tmp_path: Path) -> None:
    (problem,) = read_mbpp([write(tmp_path / "a.jsonl", {**RECORD, "test_setup_code": "one = 1"})])
    assert problem.tests == ("one = 1", "assert add(1, 2) == 3")
    assert "one" not in problem.question


def test_the_other_names_of_fields_and_a_line_separator(tmp_path: Path) -> None:
    record = {"prompt": "Add\u2028up", "test": ["assert f(1)"], "code": "f = bool"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n\n", encoding="utf-8")
    (problem,) = read_mbpp([path])
    assert (problem.question.split("\n")[0], problem.tests, problem.hidden_tests) == (
        "Add\u2028up",
        ("assert f(1)",),
        (),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "a.jsonl:2: no JSON"),
        ("[]", "a.jsonl:2: a record has to be a JSON object"),
        ('{"test_list": ["assert f()"]}', "a.jsonl:2: has no `text`"),
        ('{"text": "x", "test_list": []}', "a.jsonl:2: has no `test_list`"),
        ('{"text": "x", "test_list": "assert f()"}', "a.jsonl:2: has no `test_list`"),
        ('{"text": "x", "test_list": ["assert f()"], "challenge_test_list": 3}', "a.jsonl:2: `challenge_test_list`"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", RECORD)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=message):
        read_mbpp([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        read_mbpp([tmp_path / "none.jsonl"])
