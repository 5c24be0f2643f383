"""Near-duplicates and leaked problems planted in Chinese and Japanese texts, 500 of each per language.

strangers.cjk-recall: near-duplicates grouped with their original, and leaks matched to the problem that they quote.
strangers.cjk-false-positives: texts wrongly dropped as near-duplicates, and documents without a held-out problem that
are rejected. The values are the lowest recall and the highest false-positive rate of the four parts.
Last line: JSON.

The texts were made, and their digest written here, before the work that they measure.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from benchmarks.strangers.cjk_texts import LANGUAGES, Texts, texts
from thinkling.data.decontaminate import HeldOut
from thinkling.data.near_dedup import NearDuplicates, clusters
from thinkling.errors import UserError

DIGEST = "c2d63b897010bbc54cc7c3287c299019f0de6cd85afc3b8e0b8f8a6915fde505"


def digest(made: list[Texts]) -> str:
    content = json.dumps([asdict(one) for one in made], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def near_duplicates(given: Texts) -> tuple[int, int]:
    """Number of copies found, and of other texts dropped."""
    first = clusters([*given.originals, *given.others, *given.copies], NearDuplicates())
    n, rest = len(given.originals), len(given.originals) + len(given.others)
    return sum(first[rest + i] == first[i] for i in range(n)), sum(first[i] != i for i in range(rest))


def leaks(given: Texts) -> tuple[int, int, dict[str, int]]:
    """Number of leaks matched to their problem, of clean documents rejected, and of leaks missed by kind."""
    held_out = HeldOut(given.problems)
    found, missed = 0, {one.kind: 0 for one in given.leaks}
    for one in given.leaks:
        match = held_out.find(one.document)
        right = match is not None and match.problem == given.problems[one.problem]
        found += right
        missed[one.kind] += not right
    return found, sum(held_out.find(document) is not None for document in given.clean), missed


def main() -> None:
    made = [texts(language) for language in LANGUAGES]
    if (found := digest(made)) != DIGEST:
        raise UserError(f"the texts differ from those that were committed (SHA-256 {found}, not {DIGEST})")
    recall: dict[str, float] = {}
    wrong: dict[str, float] = {}
    for language, given in zip(LANGUAGES, made, strict=True):
        copies, dropped = near_duplicates(given)
        quoted, rejected, missed = leaks(given)
        print(f"{language.name}: {copies} near-duplicates and {quoted} leaks found (missed: {missed}), "
              f"{dropped} texts wrongly dropped and {rejected} documents wrongly rejected")  # fmt: skip
        recall |= {
            f"{language.name} near-duplicates": copies / len(given.copies),
            f"{language.name} leaks": quoted / len(given.leaks),
        }
        wrong |= {
            f"{language.name} near-duplicates": dropped / (len(given.originals) + len(given.others)),
            f"{language.name} leaks": rejected / len(given.clean),
        }
    planted = sum(len(one.copies) + len(one.leaks) for one in made)
    negatives = sum(len(one.originals) + len(one.others) + len(one.clean) for one in made)
    measurements: dict[str, dict[str, Any]] = {
        "strangers.cjk-recall": {"value": min(recall.values()), "n": planted, "unit": "share", "parts": recall},
        "strangers.cjk-false-positives": {
            "value": max(wrong.values()), "n": negatives, "unit": "share", "parts": wrong,
        },
    }  # fmt: skip
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
