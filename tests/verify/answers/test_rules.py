"""Exact rules on forms."""

import pytest

from thinkling.verify.answers.forms import Form
from thinkling.verify.answers.notation import plain
from thinkling.verify.answers.reading import read
from thinkling.verify.answers.rules import AnswerComparison, is_unfinished


def never(reference: Form, answer: Form) -> bool:
    raise AssertionError(f"{reference} and {answer} need no algebra")


def decides(reference: str, answer: str, question: str = "") -> bool:
    return AnswerComparison(question, never).texts(read(plain(reference)), plain(answer))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{1, 2, 3}", "3, 2, 1"),
        ("(1, 2)", "1, 2"),
        ("(1, 2)", "1 < x < 2"),
        ("x = 1, y = 2", "(1, 2)"),
        (r"(-\infty, 3)", "x < 3"),
        (r"(-\infty, 2) \cup (3, \infty)", "x > 3 or x < 2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
        ("x = 5", "5"),
        ("5:6", "10:12"),
        ("5:6", r"\frac{5}{6}"),
        ("1, 1, 2", "1, 2, 1"),
        ("{1, 2}", "{1, 2, 2}"),
        ("(1, 2), (3, 4)", "(3, 4), (1, 2)"),
        ("5 km", "5000 m"),
        ("60 mph", "1 mile per minute"),
    ],
)
def test_right_in_both_orders(one: str, other: str) -> None:
    assert decides(one, other)
    assert decides(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{1, 2, 3}", "(1, 2, 3)"),
        ("{1, 2}", "{1, 1}"),
        ("1, 1, 2", "1, 2, 2"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2)", "[1, 2]"),
        ("(1, 2]", "(1, 2)"),
        ("x < 3", "y < 3"),
        ("x < 3", r"x \le 3"),
        ("x = 5", "y = 5"),
        ("x = 1, y = 2", "x = 2, y = 1"),
        ("x = 1, y = 2", "{1, 2}"),
        ("5:6", "6:5"),
        ("5 km", "5 miles"),
        ("12 apples", "12 oranges"),
        ("4343_6", "4343_5"),
        ("odd", "even"),
        (r"\infty", r"-\infty"),
        (r"\infty", "5"),
        ("B", "5"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "(1, 2, 3, 4)"),
        (r"\begin{pmatrix} 1 & 2 & 3 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}"),
    ],
)
def test_wrong_in_both_orders(one: str, other: str) -> None:
    assert not decides(one, other)
    assert not decides(other, one)


@pytest.mark.parametrize(
    ("reference", "answer", "question", "right"),
    [
        ("5 km", "5", "How far, in kilometers?", True),
        ("5 km", "5", "How far?", False),
        ("5", "5 km", "", True),
        ("$5", "5", "", True),
        ("$5", "500 cents", "", True),
        ("$5", "5 cents", "", False),
        ("30°", "30", "", True),
        ("12 apples", "12", "", True),
        ("4343_6", "4343", "Write it in base 6.", True),
        ("4343_6", "4343", "Write it in base $6$.", True),
        ("4343_6", "4343", "", False),
        ("4343", "4343_6", "", False),
        ("4343", "4343_6", "Write it in base 6.", True),
        ("81, 256", "81,256", "", True),
        ("81,256", "81, 256", "", False),
        ("18", "9 + 9 = 18", "", True),
        ("18", "9 + 9", "", False),
        ("7", r"\int_0^7 1 dx", "", False),
        ("5", "x + y = 5", "", True),
        ("x + y = 5", "5", "", False),
    ],
)
def test_what_the_question_or_the_reference_fixes(reference: str, answer: str, question: str, right: bool) -> None:
    assert decides(reference, answer, question) is right


def test_algebra_is_asked_leaf_by_leaf() -> None:
    asked: list[tuple[Form, Form]] = []

    def suppose(reference: Form, answer: Form) -> bool:
        asked.append((reference, answer))
        return True

    compare = AnswerComparison("", suppose)
    assert compare.texts(read(plain(r"(1, \sqrt{8})")), plain(r"(1, 2\sqrt{2})"))
    assert len(asked) == 1
    assert not compare.texts(read(plain(r"(1, \sqrt{8})")), plain(r"(2, 2\sqrt{2})"))
    # what only seems to match must not take the place of what does
    assert compare.texts(read(plain(r"\{\sqrt{4}, 1\}")), plain(r"\{1, 2\}"))


@pytest.mark.parametrize(
    ("answer", "unfinished"),
    [
        ("3+4", True),
        (r"2 \times 512", True),
        ("(2)(9)", True),
        ("-3", False),
        ("2^{10}", False),
        ("2^{5+5}", False),
        ("10!", False),
        (r"\sqrt{16}", False),
        (r"2\sqrt{3}+1", True),
        ("x+1", False),
        (r"\sum_{k=1}^{4} k", True),
        (r"\pi + 1", False),
    ],
)
def test_unfinished(answer: str, unfinished: bool) -> None:
    assert is_unfinished(answer, read("7")) is unfinished
