"""The stated rules: each tag goes up and down with what its definition says."""

from __future__ import annotations

import random

import pytest

from tests.quality.texts import advertisement, prose
from thinkling.quality.annotator import Example
from thinkling.quality.rules import RuleAnnotator
from thinkling.quality.tags import Grades

PROSE = prose(random.Random(0), 24)
RULES = RuleAnnotator({word.strip(".").lower() for word in PROSE.split()})


def grades(text: str, matter: str = "prose", **known: object) -> Grades:
    return RULES.annotate([Example(text, matter, **known)])[0]  # type: ignore[arg-type]


def spoilt(text: str) -> str:
    return "\n".join(word for word in text.split())


@pytest.mark.parametrize(
    ("tag", "better", "worse"),
    [
        ("reasoning", PROSE, "The file is red. The name is long. The list is new. " * 5),
        ("completeness", PROSE, PROSE[3:-40] + "("),
        ("explanation", "It means a list. For example, it returns a name.", "It went home. It ran off."),
        ("density", PROSE[:390], "again and again and again and " * 10),
        ("depth", "Polymorphic interpreters instantiate abstract_classes.", "We all had a good day at home."),
        ("specificity", "In 1969 the ship met Alan, 12 men and “The Sea”.", "It was good and it was well."),
        ("self_contained", PROSE, "See above, click here, read more, next page, http://a.b " * 3),
        ("impartial", PROSE, advertisement(random.Random(0))),
        ("privacy", PROSE, "Write to a@b.org, c@d.org or call (555) 123-4567."),
        ("variety", PROSE, "The same line stands here.\n" * 20),
        ("prose", PROSE, spoilt(PROSE)),
        ("language", PROSE, "lamp shoe watch phone bag ticket lamp shoe"),
        ("spelling", PROSE, PROSE.replace("e", "q")),
        ("casing", PROSE, PROSE.upper()),
        ("punctuation", PROSE, PROSE.replace(".", "")),
        ("layout", PROSE, spoilt(PROSE)),
        ("clean_markup", PROSE, PROSE.replace(" ", " <br/>&nbsp;")),
        ("length", PROSE, "A few words."),
    ],
)
def test_a_better_text_has_a_better_grade(tag: str, better: str, worse: str) -> None:
    assert grades(better)[tag] > grades(worse)[tag]
    assert 0 <= grades(worse)[tag] <= grades(better)[tag] <= 9


def test_coherence_falls_where_parts_have_nothing_in_common() -> None:
    unrelated = " ".join(f"word{'abcdefghij'[i % 10] * (i // 10 + 1)}" for i in range(100))
    assert grades(PROSE)["coherence"] > grades(unrelated)["coherence"]
    assert "coherence" not in grades("Too short to say.")


def test_code_is_right_where_it_parses() -> None:
    assert grades("x = 1\n", "code")["correctness"] == 9
    assert grades("x = = 1\n", "code")["correctness"] == 4
    assert "casing" not in grades("x = 1\n", "code")
    assert "correctness" not in grades(PROSE, "unknown")


def test_known_damage_lowers_what_it_spoils() -> None:
    sound, damaged = grades(PROSE), grades(PROSE, damage="order", damaged_fraction=0.3)
    assert damaged["correctness"] < sound["correctness"]
    assert damaged["coherence"] < sound["coherence"]
    assert damaged["length"] == sound["length"]


class Known:
    """What a source knows: that its records are wrong, have no casing, and reason as well as they are long."""

    damage_kinds, damaged_one_in, unsound_as = ("cut",), 2, "symbols"

    def grades(self, text: str) -> dict[str, float | None]:
        return {"correctness": 0.0, "casing": None, "reasoning": float(len(text))}

    def sound(self, text: str) -> bool:
        return False

    def protected_prefix(self, text: str) -> int:
        return 0


def test_what_the_source_knows_decides_the_tags_it_names_and_no_other() -> None:
    alone, known = grades(PROSE), grades(PROSE, truth=Known())
    assert (known["correctness"], known["reasoning"]) == (0, 9)
    assert "casing" not in known
    assert {name: grade for name, grade in known.items() if name not in ("correctness", "reasoning")} == {
        name: grade for name, grade in alone.items() if name not in ("correctness", "reasoning", "casing")
    }


def test_damage_lowers_nothing_where_the_source_judges_the_damaged_text_itself() -> None:
    assert grades(PROSE, truth=Known(), damage="order", damaged_fraction=0.6) == grades(PROSE, truth=Known())
