"""Examples for the labeller: sound texts, damaged ones, and what a source's truth changes about them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.quality.texts import prose
from thinkling.data.documents import write_documents
from thinkling.quality.annotator import Example
from thinkling.quality.damage import KINDS
from thinkling.quality.pool import Origin, Pool
from thinkling.quality.tags import Grades
from thinkling.quality.training_examples import Examples, annotate, sound_rows

RNG = random.Random(0)
PROSE = {f"p{i}": prose(RNG) for i in range(16)}
KNOWN = {f"k{i}": f"QUESTION 12 is {i} and A7 plus B8\n" for i in range(12)}


@dataclass(frozen=True)
class Known:
    """Every third record is wrong; damage spares the first 8 characters."""

    number: int
    damage_kinds = ("symbols", "cut")
    damaged_one_in = 2
    unsound_as = "order"

    def grades(self, text: str) -> dict[str, float | None]:
        return {}

    def sound(self, text: str) -> bool:
        return self.number % 3 != 0

    def protected_prefix(self, text: str) -> int:
        return 8


class Silent:
    """Grades nothing, but sees everything."""

    def __init__(self) -> None:
        self.seen: list[Example] = []

    def annotate(self, examples: Sequence[Example]) -> list[Grades]:
        self.seen = list(examples)
        return [{} for _ in examples]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    texts = [("prose", key, text) for key, text in PROSE.items()] + [("known", key, t) for key, t in KNOWN.items()]
    documents = ({"id": f"{s}/{k}", "text": t, "source": s, "quality": "mq", "markup": False} for s, k, t in texts)
    write_documents(tmp_path / "pool.parquet", documents)
    truths = {key: Known(i) for i, key in enumerate(KNOWN)}
    return Pool.survey(
        tmp_path / "pool.parquet", {"prose": Origin("prose", "prose"), "known": Origin("known", truths=truths)}
    )


def annotated(pool: Pool) -> tuple[Examples, list[Example]]:
    annotator = Silent()
    found = annotate(pool, pool.texts(range(len(pool))), annotator, seed=0)
    return found, annotator.seen


def test_every_sound_text_comes_again_damaged_and_the_kinds_alternate(pool: Pool) -> None:
    found, seen = annotated(pool)
    damaged = [one for one in seen[len(pool) :] if one.truth is None]
    assert Counter(one.damage for one in damaged) == dict.fromkeys(KINDS, 2)
    assert all(0 < one.damaged_fraction <= 1 and one.matter == "prose" for one in damaged)
    assert len(found.rows) == len(found.kinds) == len(found.grades) == len(seen)


def test_a_truth_says_what_is_unsound_which_damage_fits_and_how_often(pool: Pool) -> None:
    found, seen = annotated(pool)
    kinds = dict(zip((pool.ids[row] for row in found.rows[: len(pool)]), found.kinds, strict=False))
    assert {name for name, kind in kinds.items() if kind} == {f"known/k{i}" for i in (0, 3, 6, 9)}
    assert {kind for kind in kinds.values() if kind} == {"order"}
    damaged = [one for one in seen[len(pool) :] if one.truth is not None]
    assert [one.damage for one in damaged] == ["symbols", "cut", "symbols", "cut"]  # every second of 8 sound ones
    assert all(one.text.startswith("QUESTION") for one in damaged if one.damage == "symbols")


def test_the_audit_names_document_kind_and_extent(pool: Pool) -> None:
    rows = annotated(pool)[0].audit(pool)
    assert rows[0].keys() >= {"id", "damage", "damaged_fraction", "correctness"}
    assert (rows[0]["id"], rows[0]["damage"], rows[0]["damaged_fraction"]) == ("prose/p0", "", 0.0)


def test_unsound_records_are_no_seeds(pool: Pool) -> None:
    rows = sound_rows(pool, pool.texts(range(len(pool))))
    assert {pool.ids[row] for row in set(range(len(pool))) - set(rows)} == {f"known/k{i}" for i in (0, 3, 6, 9)}
