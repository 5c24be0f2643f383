"""The stated rules: each tag goes up and down with what its definition says."""

from __future__ import annotations

import random

import pytest

from tests.stages.curate.texts import advertisement, prose
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.stages.curate.annotate import Example
from thinkling.stages.curate.rules import RuleAnnotator, check_page
from thinkling.stages.curate.tags import Grades

PROSE = prose(random.Random(0), 24)
RULES = RuleAnnotator({word.strip(".").lower() for word in PROSE.split()})
(PROBLEM,) = generate({"sum": {"min_operands": 4}}, "train", 1, 0)


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
    sound, damaged = grades(PROSE), grades(PROSE, damage="order", share=0.3)
    assert damaged["correctness"] < sound["correctness"]
    assert damaged["coherence"] < sound["coherence"]
    assert damaged["length"] == sound["length"]


def test_a_page_is_graded_by_what_the_verifier_finds() -> None:
    right = document(PROBLEM)
    cases = {
        "right": right,
        "bare": document(PROBLEM, with_trace=False),
        "working spoilt": right.replace(PROBLEM.reasoning, PROBLEM.reasoning[::-1], 1),
        "answer wrong": right.rpartition(".")[0] + ".x\n",
        "cut": right[: len(PROBLEM.question) + 4],
    }
    found = {name: grades(text, "puzzle", problem=PROBLEM) for name, text in cases.items()}
    assert found["right"]["correctness"] == found["bare"]["correctness"] == 9
    assert 3 <= found["working spoilt"]["correctness"] <= 8
    assert found["answer wrong"]["correctness"] <= 4
    assert found["right"]["reasoning"] == 9
    assert found["bare"]["reasoning"] == 1
    assert (found["right"]["completeness"], found["cut"]["completeness"]) == (9, 2)
    assert check_page(PROBLEM, right).sound
    assert not check_page(PROBLEM, cases["answer wrong"]).right
    assert not check_page(PROBLEM, cases["cut"]).answered


def test_a_tools_page_is_sound_as_written() -> None:
    for problem in generate({"calc": {}, "sort": {}, "reverse": {}}, "train", 5, 1):
        assert check_page(problem, document(problem)).sound
        assert check_page(problem, document(problem, with_trace=False)).sound
