"""Multiple choice: what names one option, and what comes near it and does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.choice import chosen, verify
from thinkling.verify.verdict import Outcome

CITIES = ("London", "A dog", "Paris", "Both A and C")

RIGHT = [
    "\\boxed{C}",
    "\\boxed{\\text{C}}",
    "\\boxed{\\textbf{(C)}}",
    "\\boxed{(C)}",
    "\\boxed{C.}",
    "\\boxed{c}",
    "\\boxed{C. Paris}",
    "\\boxed{\\text{C. Paris}}",
    "\\boxed{Paris}",
    "The answer is \\boxed{C}.",
    "The answer is **C**.",
    "**Answer: C**",
    "**Answer:** C",
    "Answer: C",
    "answer: (c)",
    "Answer:\nC",
    "Answer = C",
    "The answer is C.",
    "The correct answer is C, because it lies on the Seine.",
    "The correct option is C. London lies on the Thames.",
    "The answer is (C) Paris.",
    "The answer is option C.",
    "The answer is C) Paris",
    "The answer is Paris.",
    "The answer is: C: Paris",
    "Final answer: C - Paris",
    "<answer>C</answer>",
    "<answer> (C) Paris </answer>",
    "#### C",
    "C",
    "c",
    "(C)",
    "[C]",
    "C.",
    "C)",
    "**C**",
    "$C$",
    "$\\mathrm{C}$",
    "C. Paris",
    "(C) Paris.",
    "C: Paris",
    "Paris",
    "paris.",
    "“Paris”",
    "Option C",
    "Ｃ",
    "答案：C",
    "答案是C。",
    "故选：C",
    "A is on the Thames, and B is no city.\nC",
    "Let us see.\n\n**(C)**",
    "Answer: C\nSo \\boxed{C}.",
    "It is the capital. The answer is \\boxed{C}, and the answer is Paris.",
]
WRONG = [
    "",
    "\\boxed{}",
    "\\boxed{A}",
    "\\boxed{B}",
    "\\boxed{London}",
    "\\boxed{A, C}",
    "\\boxed{C, A}",
    "\\boxed{A} or \\boxed{C}",
    "\\boxed{C} \\quad \\text{or} \\quad \\boxed{A}",
    "\\boxed{C}\n\\boxed{A}",
    "\\boxed{A/C}",
    "\\boxed{AC}",
    "\\boxed{C and A}",
    "\\boxed{C or A}",
    "\\boxed{C?A}",
    "\\boxed{E}",
    "\\boxed{not C}",
    "\\boxed{C. London}",
    "\\boxed{A. Paris}",
    "\\boxed{Paris or London}",
    "Answer: A\nAnswer: C",
    "Answer: C\n\\boxed{A}",
    "The answer is A. The answer is C.",
    "The answer is C or A.",
    "The answer is C and A.",
    "The answer is C, A.",
    "The answer is C/A",
    "The answer is C A",
    "The answer is either A or C.",
    "The answer is not C.",
    "The answer is none of them.",
    "The answer is (A) or (C).",
    "The answer is C. London",
    "The answer is C. Or A.",
    "The answer is C. A or B would also do.",
    "(C) London",
    "(C)(A)",
    "(C) or (A)",
    "<answer>A</answer><answer>C</answer>",
    "<answer>A C</answer>",
    "#### A, C",
    "A",
    "A dog",
    "A dog.",
    "A cat sat there",
    "Cats like it",
    "Can it be C",
    "It is C or D",
    "I think C",
    "A\nB\nC",
    "A\nC",
    "C A",
    "A C",
    "AC",
    "C?",
    "Vitamin C",
    "Paris and London",
    "London",
    "E",
    "Because of the Seine",
    "The answer is Both A and C.",
]
NOT_C = ["A dog", "The answer is A dog."]


@pytest.mark.parametrize("reply", RIGHT)
def test_one_option_is_named(reply: str) -> None:
    assert judge(reply).outcome is Outcome.RIGHT, judge(reply)


@pytest.mark.parametrize("reply", WRONG)
def test_another_none_or_several(reply: str) -> None:
    assert judge(reply).outcome is Outcome.WRONG, judge(reply)


def judge(reply: str, answer: str = "C", choices: tuple[str, ...] = CITIES):
    return verify(Problem("x", "f", "?", answer, "", "choice", choices=choices), Reading.of(reply))


def test_the_table_has_enough_near_misses() -> None:
    assert len(WRONG) >= 0.4 * (len(WRONG) + len(RIGHT))


def test_an_options_text_that_starts_with_a_letter_is_its_option_not_that_letter() -> None:
    assert chosen("A dog", CITIES) == {"B"}
    assert chosen("The answer is A dog.", CITIES) == {"B"}
    assert chosen("The answer is Both A and C.", CITIES) == {"D"}
    assert chosen("A dog") == set()


def test_hedges_are_called_several() -> None:
    for reply in ("\\boxed{A} \\boxed{C}", "Answer: A\nAnswer: C", "A\nB\nC", "\\boxed{A}\nAnswer: C or D"):
        assert judge(reply).tier == "several"


def test_options_that_are_letters_themselves() -> None:
    blood = ("A", "B", "AB", "O")
    assert chosen("\\boxed{B}", blood) == {"B"}
    assert chosen("\\boxed{AB}", blood) == {"C"}
    assert chosen("O", blood) == {"D"}


def test_options_that_are_formulas() -> None:
    forms = ("$x^2$", "$2x$", "$\\frac{x}{2}$")
    assert chosen("\\boxed{2x}", forms) == {"B"}
    assert chosen("The answer is $x^2$.", forms) == {"A"}
    assert chosen("\\boxed{\\frac{x}{2}}", forms) == {"C"}


@pytest.mark.parametrize("answer", ["", "E", "Paris", "AB"])
def test_a_reference_that_is_no_letter_of_the_options_is_unverifiable(answer: str) -> None:
    assert judge("C", answer).outcome is Outcome.UNVERIFIABLE


def test_without_options_any_letter_answers_and_no_text_does() -> None:
    assert judge("\\boxed{E}", "E", ()).outcome is Outcome.RIGHT
    assert judge("\\boxed{E. Oslo}", "E", ()).outcome is Outcome.WRONG
    assert judge("Paris", "C", ()).outcome is Outcome.WRONG


@given(st.text(max_size=80) | st.text(alphabet="ABCD \\boxed{}()answer is:.\n#*", max_size=80))
def test_any_reply_gets_a_verdict(reply: str) -> None:
    assert judge(reply).outcome in (Outcome.RIGHT, Outcome.WRONG)


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from([" or ", ", ", "/", " and ", " ", "\n", "; "]))
def test_two_letters_are_never_one(first: str, second: str, between: str) -> None:
    if first != second:
        pair = first + between + second
        for reply in (f"\\boxed{{{pair}}}", f"Answer: {pair}", f"<answer>{pair}</answer>", pair):
            if not reply.startswith("Answer:") or "\n" not in between:
                assert judge(reply, second).outcome is Outcome.WRONG
