"""Pages are graded by their verifier and by the right reasoning."""

from __future__ import annotations

import random

from thinkling.puzzles.page_rules import PageTruth, check_page
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.quality.annotator import Example
from thinkling.quality.damage import KINDS, damage
from thinkling.quality.rules import RULES, RuleAnnotator
from thinkling.quality.tags import Grades

(PROBLEM,) = generate({"sum": {"min_operands": 4}}, "train", 1, 0)


def grades(text: str) -> Grades:
    return RuleAnnotator(()).annotate([Example(text, truth=PageTruth(PROBLEM))])[0]


def test_a_truth_of_pages_names_kinds_of_damage_and_tags_that_there_are() -> None:
    truth = PageTruth(PROBLEM)
    assert {*truth.damage_kinds, truth.unsound_as} <= set(KINDS)
    assert truth.grades(document(PROBLEM)).keys() <= RULES.keys()


def test_symbols_of_a_page_change_after_its_question_only() -> None:
    page = "sum A1B+5C+9:B+5=6C+9=15.15\n"
    protected = PageTruth(PROBLEM).protected_prefix(page)
    for seed in range(20):
        assert damage("symbols", page, "", random.Random(seed), protected).text.startswith("sum A1B+5C+9:")


def test_a_page_is_graded_by_what_the_verifier_finds() -> None:
    right = document(PROBLEM)
    cases = {
        "right": right,
        "bare": document(PROBLEM, with_reasoning=False),
        "reasoning spoilt": right.replace(PROBLEM.reasoning, PROBLEM.reasoning[::-1], 1),
        "answer wrong": right.rpartition(".")[0] + ".x\n",
        "cut": right[: len(PROBLEM.question) + 4],
    }
    found = {name: grades(text) for name, text in cases.items()}
    assert found["right"]["correctness"] == found["bare"]["correctness"] == 9
    assert 3 <= found["reasoning spoilt"]["correctness"] <= 8
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
        assert check_page(problem, document(problem, with_reasoning=False)).sound
