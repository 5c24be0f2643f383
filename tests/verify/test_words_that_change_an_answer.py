"""What stands beside a number may make it another one, a claim denied, or one of several."""

import pytest

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify import choice
from thinkling.verify.answers.extract import final_answers
from thinkling.verify.maths import verify
from thinkling.verify.verdict import Outcome


def outcome(reference: str, reply: str) -> Outcome:
    return verify(Problem("0", "maths", "", reference, "", "maths"), Reading.of(reply)).outcome


@pytest.mark.parametrize("word", ["负", "根号", "二十", "不是", "非", "大于", "小于", "至少", "不超过", "最多"])
def test_a_chinese_word_before_a_number_is_not_thrown_away(word: str) -> None:
    assert outcome("2", rf"\boxed{{{word}2}}") is not Outcome.RIGHT
    assert outcome("2", f"The answer is {word}2") is not Outcome.RIGHT


@pytest.mark.parametrize(
    ("reference", "reply"),
    [
        ("-2", r"\boxed{负2}"),
        ("5", "答：一共有5个"),
        ("8", "所以，答案是 他们一共有8个苹果"),
        ("3", r"\boxed{共3}"),
        ("5", "答案是5。"),
        ("A", "故选A"),
        ("50000", r"\boxed{5}万"),
        ("500000000", r"$\boxed{5}$ 亿"),
        ("500", r"\boxed{5}百"),
        ("5000", r"$\boxed{5},000$"),
        ("5000", r"$\boxed{5},\!000$"),
        ("5", r"**$\boxed{5}$**"),
        ("5", r"*\boxed{5}*"),
        ("5", r"$\boxed{5}$, 6 was wrong"),
        ("5", r"$x=\boxed{5}, x>0$"),
        ("5, 6", r"$\boxed{5}, 6$"),
        ("3:05", r"\boxed{3:05}"),
    ],
)
def test_what_is_said_in_other_words_stays_right(reference: str, reply: str) -> None:
    assert outcome(reference, reply) is Outcome.RIGHT


@pytest.mark.parametrize("reply", ["答案不是5。", "答案并不是5", "答案不为5", "答案：不是5", "结果不等于5"])
def test_an_answer_that_is_denied_is_none(reply: str) -> None:
    assert outcome("5", reply) is not Outcome.RIGHT


@pytest.mark.parametrize("reply", ["不选A", "故不选A。", "不应选A"])
def test_a_choice_that_is_denied_is_none(reply: str) -> None:
    assert outcome("A", reply) is not Outcome.RIGHT
    asked = Problem("0", "choice", "", "A", "", "choice")
    assert choice.verify(asked, Reading.of(reply)).outcome is not Outcome.RIGHT


@pytest.mark.parametrize(
    "reply",
    [r"\boxed{5}万", r"$\boxed{5}$ 亿", r"\boxed{5}千", r"\boxed{5}百万", r"$\boxed{5}*1000$", r"$3*\boxed{5}$",
     r"$\boxed{5},000$", r"$\boxed{5},\!000$"],
)  # fmt: skip
def test_a_factor_beside_the_box_belongs_to_it(reply: str) -> None:
    assert outcome("5", reply) is not Outcome.RIGHT


@pytest.mark.parametrize(
    "reply", [r"$x=\boxed{5}$ or $x=6$", r"\boxed{5}; 6", r"\boxed{5}, 6", r"$\boxed{5}, 6$", r"\boxed{5} or 6"]
)
def test_a_second_answer_without_a_box_is_one_of_several(reply: str) -> None:
    assert final_answers(reply) != ("5",)
    assert outcome("5", reply) is not Outcome.RIGHT


@pytest.mark.parametrize("reply", [r"\boxed{A} or B", r"\boxed{A}, B", r"$\boxed{A}$ or $B$", r"\boxed{A}; B"])
def test_a_second_choice_without_a_box_is_one_of_several(reply: str) -> None:
    asked = Problem("0", "choice", "", "A", "", "choice")
    assert choice.verify(asked, Reading.of(reply)).outcome is Outcome.WRONG
    assert choice.verify(asked, Reading.of(r"\boxed{A}, because B is wrong")).outcome is Outcome.RIGHT


def test_a_number_in_a_base_is_its_digits_only_where_the_question_names_the_base() -> None:
    for one, other in (("12", "12_5"), ("101", "101_2")):
        assert outcome(one, rf"\boxed{{{other}}}") is not Outcome.RIGHT
        assert outcome(other, rf"\boxed{{{one}}}") is not Outcome.RIGHT


@pytest.mark.parametrize("answer", ["0.6", "3/5", "3:5", "6:10"])
def test_a_time_of_day_is_no_ratio(answer: str) -> None:
    assert outcome("3:05", rf"\boxed{{{answer}}}") is not Outcome.RIGHT
