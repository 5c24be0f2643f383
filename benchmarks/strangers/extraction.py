"""Programs extracted from replies: `python -m benchmarks.strangers.extraction`.

extraction.jsonl contains 60 replies in the manner of models, written by hand before the code that reads them, each with
the names that its tests use and the program to extract, if any. A program is right if its syntax tree equals the
expected one's. First, every expected program is run against the row's tests in the sandbox. Last line: JSON.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify.program import ProgramVerifier, read_program

ROWS = Path(__file__).with_name("extraction.jsonl")
DIGEST = "43f1c151d8cd1787f5614b88e3994bb137f6a166f819eeb5b3eccc5a547a5c15"
"""SHA-256 of the table as it was committed before the code."""


def read() -> list[dict[str, Any]]:
    data = ROWS.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != DIGEST:
        raise UserError(f"{ROWS.name}: the table has changed: its digest is {found}, not {DIGEST}")
    return [json.loads(line) for line in data.decode().splitlines()]


def equal(taken: str | None, expected: str | None) -> bool:
    if taken is None or expected is None:
        return taken is expected
    try:
        return ast.dump(ast.parse(taken)) == ast.dump(ast.parse(expected))
    except SyntaxError:
        return False


def main() -> None:
    rows = read()
    missed = [row for row in rows if not equal(read_program(Reading.of(row["reply"]), row["tests"]), row["program"])]
    for row in missed:
        print(f"{row['id']}, {row['kind']}: another program was extracted")
    written = [row for row in rows if row["program"] is not None]
    verdicts = ProgramVerifier().verify_many(
        [
            (
                Problem(row["id"], "replies", "", "", "", "program", tests=tuple(row["tests"])),
                Reading.of(row["program"]),
            )
            for row in written
        ]
    )
    for row, verdict in zip(written, verdicts, strict=True):
        if verdict.outcome != "right":
            raise UserError(f"{row['id']}: the expected program is judged {verdict.outcome} ({verdict.detail})")
    value = {"value": len(rows) - len(missed), "n": len(rows), "unit": "replies"}
    print(json.dumps({"measurements": {"strangers.extraction": value}}))


if __name__ == "__main__":
    main()
