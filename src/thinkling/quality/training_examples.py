"""What the labeller learns from: documents of the pool, the same documents damaged on purpose, and their grades."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.quality.annotator import Annotator, Example
from thinkling.quality.damage import KINDS, damage
from thinkling.quality.features import FeatureSpace
from thinkling.quality.labeller import Annotated, as_array
from thinkling.quality.pool import Pool
from thinkling.quality.rules import check_page
from thinkling.quality.tags import NAMES, Grades
from thinkling.seeds import derive

_PAGE_KINDS = ("symbols", "characters", "order", "cut")
"""Kinds that leave of a one-line page something to grade."""
_PAGES_DAMAGED = 4
"""One sound page in so many comes damaged as well: the pool's own wrong pages are what it is graded for."""


@dataclass(frozen=True)
class Examples:
    """Examples with their grades. A document's damaged form has the document's row."""

    rows: list[int]
    examples: list[Example]
    kinds: list[str]
    """Kind of damage, empty for sound texts. A page that the verifier finds wrong counts as damaged `symbols`: the
    pool holds such pages, and nothing is told of them but what the verifier says."""
    grades: list[Grades]

    def in_numbers(self, space: FeatureSpace) -> Annotated:
        """Rows of features, of the texts alone, beside the grades."""
        features = space.features([example.text for example in self.examples])
        return Annotated(space.rows(features), as_array(self.grades), self.kinds, self.rows)

    def audit(self, pool: Pool) -> list[dict[str, Any]]:
        """A row an example: the document, what was done to it, and the grades it got."""
        return [
            {"id": pool.ids[row], "damage": example.damage, "share": example.share}
            | {name: grades.get(name) for name in NAMES}
            for row, example, grades in zip(self.rows, self.examples, self.grades, strict=True)
        ]


def annotate(pool: Pool, texts: Mapping[int, str], annotator: Annotator, seed: int) -> Examples:
    """Grades the texts (row → text) and a damaged form of those that are sound (of pages, of some); the kinds of damage
    take turns."""
    rows, examples, kinds = list(texts), [pool.example(row, text) for row, text in texts.items()], []
    for example in examples:
        check = None if example.problem is None else check_page(example.problem, example.text)
        kinds.append("symbols" if check is not None and not check.sound else "")
    sound = [(row, example) for row, example, kind in zip(rows, examples, kinds, strict=True) if not kind]
    seen = {KINDS: 0, _PAGE_KINDS: 0}
    for place, (row, example) in enumerate(sound):
        possible = KINDS if example.problem is None else _PAGE_KINDS
        turn, skipped = divmod(seen[possible], 1 if example.problem is None else _PAGES_DAMAGED)
        seen[possible] += 1
        if skipped:
            continue
        rng = random.Random(derive(seed, "damage", pool.ids[row]))
        done = damage(possible[turn % len(possible)], example.text, sound[place - 1][1].text, rng)
        rows.append(row)
        kinds.append(done.kind)
        examples.append(Example(done.text, example.matter, example.problem, done.kind, done.share))
    return Examples(rows, examples, kinds, annotator.annotate(examples))


def sound_pages(pool: Pool, texts: Mapping[int, str]) -> list[int]:
    """Rows of the texts less those of puzzle pages that a verifier does not find right."""
    found = []
    for row, text in texts.items():
        problem = pool.example(row, text).problem
        if problem is None or check_page(problem, text).sound:
            found.append(row)
    return found
