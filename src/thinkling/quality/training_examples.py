"""Training data of the labeller: documents of the pool, artificially damaged copies of these documents, and the grades
of all of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.progress import Progress, Silent
from thinkling.quality.annotator import Annotator, Example
from thinkling.quality.damage import KINDS, damage
from thinkling.quality.features import FeatureSpace
from thinkling.quality.labeller import Annotated, as_array
from thinkling.quality.pool import Pool
from thinkling.quality.rules import RuleAnnotator
from thinkling.quality.tags import NAMES, Grades
from thinkling.seeds import derive

RULES_AT_ONCE = 64


@dataclass(frozen=True)
class Examples:
    """Examples with their grades. A damaged form of a document has the same row number as the document."""

    rows: list[int]
    examples: list[Example]
    kinds: list[str]
    """Kind of damage; empty for sound texts. A record that is unsound according to its source's ground truth counts as
    damaged with the kind `Truth.unsound_as`."""
    grades: list[Grades]

    def in_numbers(self, space: FeatureSpace) -> Annotated:
        """Return the feature rows, which are computed from the texts alone, together with the grades."""
        features = space.features([example.text for example in self.examples])
        return Annotated(space.rows(features), as_array(self.grades), self.kinds, self.rows)

    def audit(self, pool: Pool) -> list[dict[str, Any]]:
        """Return one row per example with the id of the document, the damage, and the grades."""
        return [
            {"id": pool.ids[row], "damage": example.damage, "damaged_fraction": example.damaged_fraction}
            | {name: grades.get(name) for name in NAMES}
            for row, example, grades in zip(self.rows, self.examples, self.grades, strict=True)
        ]


def annotate(
    pool: Pool, texts: Mapping[int, str], annotator: Annotator, seed: int, progress: Progress | None = None
) -> Examples:
    """Grade the texts (row → text) and damaged forms of the sound texts, alternating between kinds of damage.

    If a record has ground truth, the truth determines which kinds of damage apply and what fraction (one in N) of the
    sound records is damaged. Otherwise all kinds apply, and every sound text is damaged.
    """
    rows, examples, kinds = list(texts), [pool.example(row, text) for row, text in texts.items()], []
    for example in examples:
        truth = example.truth
        kinds.append("" if truth is None or truth.sound(example.text) else truth.unsound_as)
    sound = [(row, example) for row, example, kind in zip(rows, examples, kinds, strict=True) if not kind]
    seen: Counter[tuple[tuple[str, ...], int]] = Counter()
    for place, (row, example) in enumerate(sound):
        truth = example.truth
        possible, one_in = (KINDS, 1) if truth is None else (tuple(truth.damage_kinds), truth.damaged_one_in)
        turn, skipped = divmod(seen[possible, one_in], one_in)
        seen[possible, one_in] += 1
        if skipped:
            continue
        rng = random.Random(derive(seed, "damage", pool.ids[row]))
        protected = 0 if truth is None else truth.protected_prefix(example.text)
        kind = possible[turn % len(possible)]
        done = damage(kind, example.text, sound[place - 1][1].text, rng, protected)
        rows.append(row)
        kinds.append(done.kind)
        examples.append(Example(done.text, example.matter, truth, done.kind, done.fraction))
    grades: list[Grades] = []
    # A served model receives all examples at once and shows its own progress.
    at_once = RULES_AT_ONCE if isinstance(annotator, RuleAnnotator) else max(len(examples), 1)
    with (progress or Silent()).track("annotate", len(examples), "documents") as task:
        for start in range(0, len(examples), at_once):
            some = examples[start : start + at_once]
            grades += annotator.annotate(some)
            task.advance(len(some))
    return Examples(rows, examples, kinds, grades)


def sound_rows(pool: Pool, texts: Mapping[int, str]) -> list[int]:
    """Return the rows of the texts that are sound according to their source's ground truth, or whose source provides no
    ground truth."""
    truths = {row: pool.example(row, text).truth for row, text in texts.items()}
    return [row for row, truth in truths.items() if truth is None or truth.sound(texts[row])]
