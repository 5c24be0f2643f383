"""Strangers' cases: `python -m benchmarks.strangers.cases [--cases DIRECTORY]`.

A row of a table is a small input in our own words, derived from a public bug report or another project's test, with the
expected verdict; `a|b` allows either. Reports that a table cannot express are checks in checks.py and chat_checks.py.
strangers.cases: number of rows and checks with another outcome, and the disputed rows (DISPUTED). The tables are not
part of the project: --cases or $THINKLING_CASES names their folder. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.strangers import chat_checks, checks
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.served_reply import split_inline
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many

TABLES = ("bugs-maths.jsonl", "suites-maths.jsonl", "bugs-programs.jsonl", "suites-programs.jsonl")
DISPUTED: dict[str, str] = {}
"""Id of a row → why its expected verdict is wrong."""


def read(directory: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            text = (directory / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{directory / name}: {error.strerror}; set --cases or THINKLING_CASES to the folder"
            ) from None
        rows += [json.loads(line) for line in text.split("\n") if line.strip()]
    return rows


def problem(row: dict[str, Any]) -> Problem:
    """The problem of a row. Tables of programs omit the verifier if it is `program`."""
    tests, verifier = tuple(row.get("tests", ())), row.get("verifier", "program")
    return Problem(
        row["id"], "cases", row.get("question", ""), row.get("reference", ""), "", verifier, hidden_tests=tests
    )


def reply(row: dict[str, Any]) -> str:
    """The model's final answer: the reply without reasoning, or the program in a code block."""
    if "program" in row:
        return f"```python\n{row['program']}\n```"
    return split_inline(row["reply"])[1]


def described() -> list[tuple[str, bool]]:
    """All checks by name, and whether each passes; a check that raises fails."""
    found: list[tuple[str, bool]] = []
    for check in (*checks.CHECKS, *chat_checks.CHECKS):
        with tempfile.TemporaryDirectory() as folder:
            outcomes = check(Path(folder))
            try:
                found += [(f"{check.__name__}: {name}", ok) for name, ok in outcomes]
            except Exception as error:
                found.append((f"{check.__name__}: {type(error).__name__}: {error}"[:300], False))
    return found


def failing(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each row with an unexpected verdict."""
    samples = [(problem(row), Reading.of(reply(row))) for row in rows]
    return [
        f"{row['id']}, {row['kind']}: {verdict.outcome}, not {row['expected']}"
        for row, verdict in zip(rows, verify_many(samples), strict=True)
        if verdict.outcome not in row["expected"].split("|")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the tables of strangers' cases.")
    parser.add_argument("--cases", type=Path, default=os.environ.get("THINKLING_CASES"), help="folder of the tables")
    directory = parser.parse_args().cases
    if directory is None:
        raise UserError("set --cases or THINKLING_CASES to the folder of the tables")
    rows, told = read(Path(directory), TABLES), described()
    lines = failing([row for row in rows if row["id"] not in DISPUTED]) + [name for name, ok in told if not ok]
    print(*lines, sep="\n")
    kinds = Counter(row["kind"] for row in rows)
    measurement = {"value": len(lines) + len(DISPUTED), "n": len(rows) + len(told), "unit": "rows and checks"}
    print(json.dumps({"measurements": {"strangers.cases": measurement | {"kinds": dict(kinds), "disputed": DISPUTED}}}))


if __name__ == "__main__":
    main()
