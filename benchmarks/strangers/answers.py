"""The maths verifier on the frozen table answers.jsonl, in both orders, and math-verify alone.

strangers.answers-false-positives: wrong pairs judged right; strangers.answers-recall: fraction of right pairs judged
right; strangers.answers-order: pairs whose verdict changes when reference and answer are swapped, to rule out false
positives in one order only; strangers.answers-math-verify: recall of math-verify alone, with its false positives.
Last line: JSON.

The table was committed, and its digest written here, before the work that it measures. Half of it consists of real
outputs and MATH answers from $THINKLING_DATA, whose text is read here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from math_verify import parse, verify
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig

from benchmarks.exactness.verifier import wilson
from benchmarks.strangers.answer_rows import TABLE, Row, read_rows
from thinkling.errors import UserError
from thinkling.verify.answers.extract import final_answers
from thinkling.verify.maths import MathsVerifier
from thinkling.verify.pool import Pool
from thinkling.verify.verdict import Outcome, Verdict

DIGEST = "f5d4c17d4a9968f4780b43c7b3b29be860699b94cb2cdee7febe06b2608cf7b3"
WORKERS = 2
ONE_WAY = {
    "answers-0524": "x^2 = 49 is an equation as a reference; as an answer it is a chain, of which the last side counts",
    "answers-1326": "9 times 2 as an answer is work left undone; as a reference it is worked out",
}
"""Pairs whose verdict depends on the order by a rule of docs/verify.md."""


def judge(rows: Sequence[Row], pool: Pool) -> list[Verdict]:
    """A verdict for each row, as in a recipe."""
    verdicts: dict[str, Verdict] = {}
    for verifier in ("maths", "maths-last-number"):
        mine = [row for row in rows if row.verifier == verifier]
        found = MathsVerifier(last_number=verifier == "maths-last-number", pool=pool).verify_many(
            [(row.problem, row.reading) for row in mine]
        )
        verdicts |= {row.id: verdict for row, verdict in zip(mine, found, strict=True)}
    return [verdicts[row.id] for row in rows]


def turned(row: Row) -> Row | None:
    """The row with reference and answer swapped; None if the reply has no readable answer."""
    named = final_answers(row.reading.answer or "", row.verifier == "maths-last-number")
    if not named:
        return None
    reference = ", ".join(rf"\boxed{{{answer}}}" for answer in named)
    return replace(row, reference=reference, reply=rf"\boxed{{{row.reference}}}", verifier="maths")


def main() -> None:
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    if hashlib.sha256(TABLE.read_bytes()).hexdigest() != DIGEST:
        raise UserError(f"{TABLE.name}: not the table that was committed (SHA-256 {DIGEST})")
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("set THINKLING_DATA to the folder of real data, which holds half of the pairs")
    rows = read_rows(Path(data))
    pool = Pool(workers=WORKERS)
    verdicts = judge(rows, pool)
    pairs = [(row, other, verdict) for row, verdict in zip(rows, verdicts, strict=True) if (other := turned(row))]
    backwards = judge([other for _, other, _ in pairs], pool)
    pool.close()
    show(rows, verdicts)
    ours = [verdict.outcome is Outcome.RIGHT for verdict in verdicts]
    differ = {
        row.id: f"{row.id} {row.kind}: {one.outcome}, and {two.outcome} in the other order"
        for (row, _, one), two in zip(pairs, backwards, strict=True)
        if (one.outcome is Outcome.RIGHT) is not (two.outcome is Outcome.RIGHT)
    }
    argued = {name: ONE_WAY[name] for name in differ if name in ONE_WAY}
    print(*differ.values(), sep="\n")
    alone = [math_verify_alone(row) for row in rows]
    found, peer = rates(rows, ours), rates(rows, alone)
    missed = sum(row.expected == "right" for row in rows) - found["hits"]
    measurements = {
        "strangers.answers-false-positives": {
            "value": found["false_positives"], "n": found["not_right"], "unit": "pairs", "by_kind": by_kind(rows, ours),
        },
        "strangers.answers-recall": wilson(found) | {"missed": missed},
        "strangers.answers-order": {
            "value": len(differ) - len(argued), "n": len(pairs), "unit": "pairs", "one_way": argued,
        },
        "strangers.answers-math-verify": wilson(peer) | {"false_positives": peer["false_positives"]},
    }  # fmt: skip
    print(json.dumps({"measurements": measurements}))


def math_verify_alone(row: Row) -> bool:
    """math-verify as in its README, plus extraction of choice letters, with its own timeouts."""
    targets = [LatexExtractionConfig(), ExprExtractionConfig(), StringExtractionConfig()]
    gold = parse(f"${row.reference}$", targets) or parse(row.reference, targets)
    return bool(verify(gold, parse(row.reply, targets)))


def rates(rows: Sequence[Row], called_right: Sequence[bool]) -> dict[str, Any]:
    right = [called for row, called in zip(rows, called_right, strict=True) if row.expected == "right"]
    other = [called for row, called in zip(rows, called_right, strict=True) if row.expected != "right"]
    return {
        "recall": sum(right) / len(right),
        "hits": sum(right),
        "right": len(right),
        "not_right": len(other),
        "false_positives": sum(other),
    }


def by_kind(rows: Sequence[Row], called_right: Sequence[bool]) -> dict[str, list[int]]:
    """Kind → number of pairs, right pairs judged right, right pairs, false positives."""
    kinds: dict[str, list[int]] = {}
    for row, called in zip(rows, called_right, strict=True):
        counts = kinds.setdefault(row.kind, [0, 0, 0, 0])
        right = row.expected == "right"
        for at, one in enumerate((True, right and called, right, called and not right)):
            counts[at] += one
    return kinds


def show(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """Prints every unexpected verdict, and a line per kind."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row, verdict in zip(rows, verdicts, strict=True):
        kinds[row.kind][f"{row.expected}, judged {verdict.outcome}"] += 1
        if row.expected != verdict.outcome:
            text = f"{row.reference} | {row.reply[-100:]!r}" if not row.real else ""
            print(f"{row.id} {row.kind}: {row.expected}, judged {verdict.outcome} by {verdict.tier}: {text}")
    for kind, counts in kinds.items():
        print(f"{kind}: {dict(counts)}")


if __name__ == "__main__":
    main()
