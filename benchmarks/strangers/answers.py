"""The maths verifier on the frozen table answers.jsonl, in both orders, math-verify alone beside it.

strangers.answers-false-positives: pairs called right that are not, in either order; strangers.answers-recall: share of
the right ones that are called right; strangers.answers-order: pairs whose verdict changes when reference and answer
change places; strangers.answers-math-verify: recall of math-verify alone, its false positives beside it.
Last line: JSON.

The table was committed, and its digest written here, before the work that it measures. Half of it is real outputs and
MATH answers of $THINKLING_DATA, whose text is read here.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.strangers.answer_rows import TABLE, Row, read_rows
from thinkling.errors import UserError
from thinkling.verify.maths import MathsVerifier
from thinkling.verify.pool import Pool
from thinkling.verify.verdict import Verdict

DIGEST = "f5d4c17d4a9968f4780b43c7b3b29be860699b94cb2cdee7febe06b2608cf7b3"
WORKERS = 2
MOST_SHOWN = 40


def judge(rows: Sequence[Row], pool: Pool) -> list[Verdict]:
    """A verdict for each row, as a recipe would have it."""
    verdicts: dict[str, Verdict] = {}
    for verifier in ("maths", "maths-last-number"):
        mine = [row for row in rows if row.verifier == verifier]
        found = MathsVerifier(last_number=verifier == "maths-last-number", pool=pool).verify_many(
            [(row.problem, row.reading) for row in mine]
        )
        verdicts |= {row.id: verdict for row, verdict in zip(mine, found, strict=True)}
    return [verdicts[row.id] for row in rows]


def main() -> None:
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    if hashlib.sha256(TABLE.read_bytes()).hexdigest() != DIGEST:
        raise UserError(f"{TABLE.name}: it is not the table that was committed (SHA-256 {DIGEST})")
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("THINKLING_DATA is not set to the folder of real data: half of the pairs are read from there")
    rows = read_rows(Path(data))
    pool = Pool(workers=WORKERS)
    verdicts = judge(rows, pool)
    show(rows, verdicts)
    pool.close()


def show(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """What is not as expected, and a line per kind."""
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
