"""The tables of strangers' cases, judged: `python -m benchmarks.strangers.cases [--cases DIRECTORY]`.

A row is a small input in the project's own words, made from a public bug report or a test of a peer, with the verdict
it should have; `a|b` allows either. strangers.cases-maths: rows of bugs-maths.jsonl and suites-maths.jsonl that are
judged otherwise. The tables are no part of the project: --cases or $THINKLING_CASES says where they are.
Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from thinkling.data.reading import Reading
from thinkling.data.reasoning_marks import split
from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many

MATHS = ("bugs-maths.jsonl", "suites-maths.jsonl")


def read(directory: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            text = (directory / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{directory / name}: {error.strerror}; --cases or THINKLING_CASES names the folder"
            ) from None
        rows += [json.loads(line) for line in text.split("\n") if line.strip()]
    return rows


def failing(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each row that is not as expected."""
    samples = [
        (
            Problem(row["id"], "cases", row.get("question", ""), row["reference"], "", row["verifier"]),
            Reading.of(split(row["reply"])[1]),
        )
        for row in rows
    ]
    return [
        f"{row['id']}, {row['kind']}: {verdict.outcome}, not {row['expected']}"
        for row, verdict in zip(rows, verify_many(samples), strict=True)
        if verdict.outcome not in row["expected"].split("|")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge the tables of strangers' cases.")
    parser.add_argument("--cases", type=Path, default=os.environ.get("THINKLING_CASES"), help="folder of the tables")
    directory = parser.parse_args().cases
    if directory is None:
        raise UserError("--cases or THINKLING_CASES has to name the folder of the tables")
    rows = read(Path(directory), MATHS)
    lines = failing(rows)
    print(*lines, sep="\n")
    kinds = Counter(row["kind"] for row in rows)
    measurement = {"value": len(lines), "n": len(rows), "unit": "rows", "kinds": dict(kinds)}
    print(json.dumps({"measurements": {"strangers.cases-maths": measurement}}))


if __name__ == "__main__":
    main()
