"""Python problems of the user's own, in the form of MBPP (Austin et al. 2021, arXiv 2108.07732): JSON lines.

A record has `text` (or `prompt`) and `test_list` (or `test`); it may have `code`, `test_setup_code` and
`challenge_test_list`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thinkling.errors import UserError
from thinkling.tasks.problem import Problem, problem_id

FAMILY = "mbpp"


def read_mbpp(paths: Iterable[str | Path]) -> list[Problem]:
    """The problems of the files, in order; verifier `program`.

    The first test is public and stands in the question, for it names the function. The others, and the challenge
    tests, are hidden. Set-up code runs before them. `Problem.answer` is the record's own solution, or empty.
    Raises UserError naming file and line: a line that is no record, or one without text or tests.
    """
    return [_problem(record, where) for path in map(Path, paths) for where, record in _records(path)]


def _records(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: no JSON ({error})") from error
        if not isinstance(record, dict):
            raise UserError(f"{where}: a record has to be a JSON object")
        yield where, record


def _problem(record: Mapping[str, Any], where: str) -> Problem:
    text = record.get("text", record.get("prompt"))
    tests = record.get("test_list", record.get("test"))
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: has no `text`")
    if not _are_texts(tests) or not tests:
        raise UserError(f"{where}: has no `test_list`, a list of assertions")
    further = record.get("challenge_test_list", [])
    if not _are_texts(further):
        raise UserError(f"{where}: `challenge_test_list` is no list of assertions")
    first, *others = [_lines(test) for test in tests]
    setup = _lines(str(record.get("test_setup_code") or ""))
    question = f"{_lines(text)}\nYour code has to pass this test:\n{first}"
    return Problem(
        id=problem_id(FAMILY, question),
        family=FAMILY,
        question=question,
        answer=_lines(str(record.get("code") or "")),
        reasoning="",
        verifier="program",
        tests=(setup, first) if setup else (first,),
        hidden_tests=(*others, *map(_lines, further)),
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
