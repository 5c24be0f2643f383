"""The table of what new users stumbled over, and how its checks are judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmarks.newcomer import rows
from benchmarks.newcomer.rows import Command, Row, Text

ROOT = Path(__file__).parents[2]
FIELDS = {"id": "r", "severity": 1, "fault": "It failed."}


def test_the_table_can_be_read() -> None:
    table = rows.read()
    assert len(table) > 90
    assert {row.severity for row in table} == {1, 2, 3}


def test_a_row_has_a_check_or_says_what_it_waits_for() -> None:
    for fields in ({}, {"later": "GPUs.", "tests": ["t.py::t"]}):
        with pytest.raises(ValidationError, match="needs a check"):
            Row.model_validate(FIELDS | fields)
    with pytest.raises(ValidationError, match="sayz"):
        Row.model_validate(FIELDS | {"commands": [{"run": "thinkling", "sayz": []}]})


def test_a_text_that_lacks_a_phrase_or_has_one_too_many_is_wrong() -> None:
    text = Text(says=["one two", r"\d+"], lacks=["three"])
    assert text.wrong("one\n  two 3") == ""
    assert "does not say '\\\\d+'" in text.wrong("one two")
    assert "says 'three'" in text.wrong("one two 3 three")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Command(run="thinkling --version", says=["thinkling"]), ""),
        (Command(run="thinkling fly", status=0), "exit status 2"),
        (Command(run="thinkling --version", status=2), "exit status 0"),
        (Command(run="thinkling --version", writes=["my.yaml"]), "does not write my.yaml"),
        (Command(run="thinkling --version", lacks=["thinkling"]), "says 'thinkling'"),
        (Command(run="python3 -c '1/0'", status=1), "a traceback"),
    ],
)
def test_a_command_that_does_something_else_is_noticed(tmp_path: Path, command: Command, reason: str) -> None:
    wrong = rows.wrong_command(command, tmp_path)
    assert reason in wrong
    assert bool(wrong) == bool(reason)


def test_what_a_page_hides_at_first_is_not_visible() -> None:
    page = "<p>a</p><details><summary>b</summary>c<details open>d</details></details><details open>e</details><p>f</p>"
    assert rows.visible(page).split() == ["a", "b", "e", "f"]


def test_a_test_that_shows_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_right(): pass\n"
        "@pytest.mark.parametrize('n', [0, 1])\ndef test_half(n): assert n\n"
        "@pytest.mark.skip(reason='no')\ndef test_skipped(): pass\n"
    )
    monkeypatch.setattr(rows, "ROOT", tmp_path)
    wanted = [f"test_it.py::test_{name}" for name in ("right", "half", "half[1]", "skipped", "absent")]
    found = rows.outcomes([*wanted, "test_other.py::test_right"])
    assert set(found) == {*(wanted[i] for i in (1, 3, 4)), "test_other.py::test_right"}
    assert "failed test_it.py::test_half[0]" in found[wanted[1]]
    assert found[wanted[3]].endswith("was skipped")
    assert found[wanted[4]].endswith("was not found")
