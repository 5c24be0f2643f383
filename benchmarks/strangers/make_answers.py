"""Makes answers.jsonl: `python -m benchmarks.strangers.make_answers --data DIRECTORY`. Run once, before the work.

Half of the rows are written (written_answers.py). The other half are references to real ones: a file in
$THINKLING_DATA, a row and a field; their text is read when they are judged. `form` says how the text is used:

- `reply`: the unchanged output of a model; expected: the authors' own label;
- `line`: its last line before "A:", without calculator annotations, if its last number is the answer; same label;
- `either`: two models' answers to one question, one of them right, in two boxes: wrong;
- `both`: like `either`, with the same right answer twice: right;
- `gold`: a MATH answer in a box, unchanged or in another spelling (`edit`): right; or with a fault: wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

from benchmarks.strangers import more_written_answers  # noqa: F401  its kinds register themselves
from benchmarks.strangers.answer_rows import EDITS, GSM8K, MATH, TABLE, last_line, lines, shown
from benchmarks.strangers.written_answers import KINDS

SEED = 20261128
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
REPLIES, LINES, EITHER, BOTH, GOLDS = 650, 60, 60, 30, 16
"""Number of rows: per label for the first two, per edit for the last."""


def written(rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for name, make in KINDS.items():
        seen = set()
        for reference, reply, expected, *rest in make(rng):
            question, verifier = [*rest, "", "maths"][:2] if len(rest) < 2 else rest
            verifier = verifier if len(rest) == 2 else "maths"
            if (reference, reply) in seen:
                continue
            seen.add((reference, reply))
            row = {"kind": name, "reference": reference, "reply": reply, "verifier": verifier, "expected": expected}
            rows.append(row | ({"question": question} if question else {}))
    return rows


def from_gsm8k(data: Path, rng: random.Random) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in lines(data / GSM8K)]
    keys = [(row, model) for row in range(len(entries)) for model in MODELS]
    rng.shuffle(keys)
    rows: list[dict[str, Any]] = []
    label = {True: "right", False: "wrong"}
    for right in (True, False):
        fitting = [
            key
            for key in keys
            if entries[key[0]][key[1]]["is_correct"] is right and _answer(entries[key[0]][key[1]]["solution"])
        ]
        if not right:  # the nearest misses first: off by one, by a factor of ten, by a sign, by one digit
            fitting.sort(
                key=lambda key: not _near(_gold(entries[key[0]]), _answer(entries[key[0]][key[1]]["solution"]))
            )
        for row, model in fitting[:REPLIES]:
            rows.append(_real("reply", row, model, label[right]))
        ending = [
            (row, model)
            for row, model in fitting
            if re.findall(r"\d[\d,]*(?:\.\d+)?", last_line(entries[row][model]["solution"]))[-1:]
            == [_answer(entries[row][model]["solution"])]
        ]
        for row, model in ending[:LINES]:
            rows.append(_real("line", row, model, label[right]) | {"verifier": "maths-last-number"})
    pairs = []
    for row, entry in enumerate(entries):
        right = [model for model in MODELS if entry[model]["is_correct"]]
        wrong = [model for model in MODELS if not entry[model]["is_correct"] and _answer(entry[model]["solution"])]
        if right and wrong and _gold(entry) not in {_answer(entry[model]["solution"]) for model in wrong}:
            pairs.append((row, right[0], wrong[0]))
    rng.shuffle(pairs)
    for at, (row, right, wrong) in enumerate(pairs[:EITHER]):
        first, second = (right, wrong) if at % 2 else (wrong, right)
        rows.append(_real("either", row, f"{first}+{second}", "wrong"))
    for row, right, _ in pairs[EITHER : EITHER + BOTH]:
        rows.append(_real("both", row, f"{right}+{right}", "right"))
    return rows


def _real(form: str, row: int, field: str, expected: str) -> dict[str, Any]:
    return {
        "kind": f"real-{form}",
        "file": GSM8K,
        "row": row,
        "field": field,
        "form": form,
        "verifier": "maths",
        "expected": expected,
    }


def _gold(entry: dict[str, Any]) -> str:
    return entry["ground_truth"].rpartition("\nA:")[2].strip()


def _answer(solution: str) -> str:
    """The plain number after "A:", or an empty string."""
    found = re.search(r"(?:^|\n)A: *(-?\d[\d,]*(?:\.\d+)?)\s*$", solution)
    return found[1] if found else ""


def _near(gold: str, answer: str) -> bool:
    one, other = (float(text.replace(",", "")) for text in (gold, answer))
    alike = sorted(re.sub(r"\D", "", gold)) == sorted(re.sub(r"\D", "", answer))
    return abs(one - other) <= 1 or alike or one == -other or one in (10 * other, other / 10, 100 * other, other / 100)


def from_math(data: Path, rng: random.Random) -> list[dict[str, Any]]:
    golds = [str(entry["answer"] or "") for entry in json.loads((data / MATH).read_text(encoding="utf-8"))]
    rows: list[dict[str, Any]] = []
    for name, (_, expected, fits) in EDITS.items():
        fitting = [row for row, gold in enumerate(golds) if gold and fits(gold) and shown(gold, name) is not None]
        for row in rng.sample(fitting, min(GOLDS, len(fitting))):
            rows.append(
                {
                    "kind": "real-gold",
                    "file": MATH,
                    "row": row,
                    "field": "answer",
                    "form": "gold",
                    "edit": name,
                    "verifier": "maths",
                    "expected": expected,
                }
            )
    return rows


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True)
    rng = random.Random(SEED)
    data = options.parse_args().data
    rows = written(rng) + from_gsm8k(data, rng) + from_math(data, rng)
    with TABLE.open("w", encoding="utf-8") as file:
        for at, row in enumerate(rows):
            file.write(json.dumps({"id": f"answers-{at:04d}"} | row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
