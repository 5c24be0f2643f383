"""The maths verifier on the frozen table tests/verify/maths_pairs.jsonl, math-verify alone, and cost bombs.

verify.false-positives: wrong pairs judged right; verify.recall: fraction of right pairs judged right;
verify.math-verify-alone: recall of math-verify alone, with its false positives; verify.bomb-verdicts: verdicts of other
samples changed by cost bombs in their batch, with the longest time that a bomb survived past its deadline;
verify.bomb-delay: seconds by which the bombs delayed the last of the other samples. Last line: JSON.

Half of the pairs are written by hand. The others are keys into $THINKLING_DATA/gsm8k/example_model_solutions.jsonl,
whose texts are read here; their label is the authors' `is_correct`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from math_verify import parse, verify
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig

from benchmarks.machine import ROOT
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify.maths import MathsVerifier
from thinkling.verify.pool import Pool, Request
from thinkling.verify.verdict import Outcome

TABLE = ROOT / "tests" / "verify" / "maths_pairs.jsonl"
DEADLINE = 5.0
WORKERS = 2
ROUNDS = 3
BOMBS = [
    ("10^{10^{10}}", "5"),
    ("5", "10^{10^{10}}"),
    ("5!!!!!!", "5"),
    ("5", "5!!!!!!"),
    ("9^{9^{9^{9}}}", "5"),
    ("5", r"(10^{6})!!"),
    ("x+1", r"\log(\log(\log(10^{10^{100}})))"),
    ("x", r"\sin(" * 150 + "x" + ")" * 150),
    ("x", r"\sqrt{" * 120 + "2" + "}" * 120),
    ("x", r"\frac{1}{" * 100 + "x" + "}" * 100),
    (r"\int e^{x^{x}} dx", "5"),
    ("123456789^{123456789}", "123456789^{123456789}+1"),
]
OTHERS = [
    request
    for n in range(2, 52)
    for request in (
        Request(rf"\sqrt{{{2 * n * n}}}", rf"{n}\sqrt{{2}}"),
        Request(rf"\sqrt{{{3 * n * n}}}", rf"{n}\sqrt{{2}}"),
        Request(f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}"),
        Request(f"x^{n}", f"x^{{{n + 1}}}"),
    )
]


@dataclass(frozen=True)
class Pair:
    """One pair of the table; `label` is the expected outcome."""

    reference: str
    completion: str
    label: str
    origin: str
    question: str = ""

    @property
    def reading(self) -> Reading:
        """The answer part of the completion, which is text with any reasoning between think tags."""
        answer = self.completion.rpartition("</think>")[2]
        return Reading("", None) if "<think>" in answer else Reading.of(answer)


def read_pairs(data: Path | None) -> list[Pair]:
    """The frozen table; without `data`, only its hand-written half."""
    rows = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").split("\n") if line]
    pairs = [
        Pair(row["reference"], row["completion"], row["label"], row["origin"], row.get("question", ""))
        for row in rows
        if row["origin"] == "hand"
    ]
    if data is None:
        return pairs
    solutions = (data / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").split("\n")
    for row in rows:
        if row["origin"] != "hand":
            entry = json.loads(solutions[row["row"]])
            reference = entry["ground_truth"].rpartition("\nA:")[2].strip()
            completion = entry[row["model"]]["solution"]
            pairs.append(Pair(reference, completion, row["label"], row["origin"], entry["question"]))
    return pairs


def main() -> None:
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("set THINKLING_DATA to the folder of real data, which holds half of the pairs")
    pairs = read_pairs(Path(data))
    pool = Pool(workers=WORKERS)
    samples = [(Problem("0", "maths", pair.question, pair.reference, "", "maths"), pair.reading) for pair in pairs]
    start = time.perf_counter()
    verdicts = MathsVerifier(pool=pool).verify_many(samples)
    seconds = time.perf_counter() - start
    pool.close()
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if pair.label != verdict.outcome:
            where = f"{pair.reference} | {pair.completion[-80:]!r}"
            print(f"{pair.label}, judged {verdict.outcome} by {verdict.tier}: {where}")
    ours = _rates(pairs, [verdict.outcome is Outcome.RIGHT for verdict in verdicts])
    start = time.perf_counter()
    plain = _rates(pairs, [_alone(pair) for pair in pairs])
    alone_seconds = time.perf_counter() - start
    letters = _rates(pairs, [_alone(pair, letters=True) for pair in pairs])
    for name, rates in (("thinkling", ours), ("math-verify", plain), ("math-verify with choice letters", letters)):
        print(
            f"{name}: recall {rates['recall']:.4f}, {rates['false_positives']} of {rates['not_right']} false positives"
        )
    tiers = {tier: sum(verdict.tier == tier for verdict in verdicts) for tier in sorted({one.tier for one in verdicts})}
    recalls = [
        _rates([pair for pair in pairs if (pair.origin == "hand") is hand], _flags(pairs, verdicts, hand))
        for hand in (False, True)
    ]
    measurements = {
        "verify.false-positives": {
            "value": ours["false_positives"],
            "n": ours["not_right"],
            "runs": [half["false_positives"] for half in recalls],
            "unit": "pairs",
            "tiers": tiers,
        },
        "verify.recall": wilson(ours) | {"runs": [half["recall"] for half in recalls], "seconds": seconds},
        "verify.math-verify-alone": wilson(plain)
        | {
            "false_positives": plain["false_positives"],
            "not_right": plain["not_right"],
            "with_choice_letters": {key: letters[key] for key in ("recall", "false_positives")},
            "seconds": alone_seconds,
        },
    } | _bombs()
    print(json.dumps({"measurements": measurements}))


def _flags(pairs: Sequence[Pair], verdicts: Sequence[Any], hand: bool) -> list[bool]:
    return [v.outcome is Outcome.RIGHT for p, v in zip(pairs, verdicts, strict=True) if (p.origin == "hand") is hand]


def _rates(pairs: Sequence[Pair], called_right: Sequence[bool]) -> dict[str, Any]:
    found = list(zip([pair.label == "right" for pair in pairs], called_right, strict=True))
    right = sum(label for label, _ in found)
    hits = sum(label and called for label, called in found)
    return {
        "recall": hits / right,
        "hits": hits,
        "right": right,
        "not_right": len(found) - right,
        "false_positives": sum(called and not label for label, called in found),
    }


def wilson(rates: dict[str, Any]) -> dict[str, Any]:
    """A proportion with its 95% Wilson interval."""
    n, fraction, z = rates["right"], rates["recall"], 1.959964
    centre = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": fraction, "low": centre - half, "high": min(1.0, centre + half), "n": n, "unit": "share"}


def _alone(pair: Pair, letters: bool = False) -> bool:
    """math-verify as in its README, with its own timeouts."""
    targets = [LatexExtractionConfig(), ExprExtractionConfig()]
    targets = [*targets, StringExtractionConfig()] if letters else targets
    gold = parse(f"${pair.reference}$", targets) or parse(pair.reference, targets)
    return bool(verify(gold, parse(pair.completion, targets)))


def _bombs() -> dict[str, dict[str, Any]]:
    """The same samples without bombs and with a bomb before every few samples, alternating, in one warm pool."""
    bombs = [Request(reference, answer) for reference, answer in BOMBS]
    every = len(OTHERS) // len(bombs)
    mixed: list[Request] = []
    for at, other in enumerate(OTHERS):
        if at % every == 0 and at // every < len(bombs):
            mixed.append(bombs[at // every])
        mixed.append(other)
    past: list[float] = []
    changed: list[int] = []
    delays: list[float] = []
    last: list[list[float]] = []
    pool = Pool(workers=WORKERS, deadline_seconds=DEADLINE)
    pool.compare_many(OTHERS)
    for _ in range(ROUNDS):
        alone = dict(zip(OTHERS, pool.compare_many(OTHERS), strict=True))
        together = dict(zip(mixed, pool.compare_many(mixed), strict=True))
        lived = [together[bomb] for bomb in bombs]
        past.append(max(reply.seconds for reply in lived) - DEADLINE)
        changed.append(sum(alone[other].kind != together[other].kind for other in OTHERS))
        last.append([max(replies[other].finished for other in OTHERS) for replies in (alone, together)])
        delays.append(last[-1][1] - last[-1][0])
        killed = [reply.kind for reply in lived].count("timeout")
        print(
            f"others: {last[-1][0]:.2f} s alone, {last[-1][1]:.2f} s beside {len(bombs)} bombs, {killed} of them killed"
        )
    pool.close()
    shared = {"bombs": len(bombs), "others": len(OTHERS), "workers": WORKERS, "load": os.getloadavg()[0]}
    return {
        "verify.bomb-verdicts": {
            "value": sum(changed),
            "n": len(OTHERS) * ROUNDS,
            "runs": changed,
            "unit": "verdicts",
            "deadline": DEADLINE,
            "most_seconds_past_deadline": max(past),
            **shared,
        },
        "verify.bomb-delay": {
            "value": statistics.median(delays),
            "low": min(delays),
            "high": max(delays),
            "n": ROUNDS,
            "runs": delays,
            "unit": "seconds",
            "alone_and_with": last,
            "median_ratio": statistics.median(beside / alone for alone, beside in last),
            **shared,
        },
    }


if __name__ == "__main__":
    main()
