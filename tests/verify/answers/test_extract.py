"""Where in a reply the answer stands."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.verify.answers.boxes import closing_brace
from thinkling.verify.answers.extract import LONGEST_ANSWER, final_answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{8} no, \boxed{7}", "7"),
        (r"\boxed{8} or \boxed{7}", "8, 7"),
        (r"\boxed{8}, $\boxed{7}$ and \boxed{6}", "8, 7, 6"),
        (r"\boxed{8}, \boxed{7", "8"),
        (r"\boxed 5", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{}", None),
        (r"\boxed{7", r"\boxed{7"),
        ("x\n\\boxed{7", None),
        ("The answer is 3.\n#### 4\n", "4"),
        ("#### 4\n#### 5", "4, 5"),
        ("#### 4\nNo, one more.\n#### 5", "5"),
        ("####", None),
        ("The answer is 1.5. Well done.", "1.5"),
        ("The answer is $x = 1. 5$. Done", "$x = 1. 5$"),
        ("An answer is 3, the final answer is: 4", "4"),
        ("**Answer:** 4", "4"),
        ("**Final answer**: 4", "4"),
        ("Answer = 4", "4"),
        ("The answer is\n4", "4"),
        ("The answer is 4 because 2 + 2 = 4", "4"),
        ("The answer isn't 4\nbut what", None),
        ("Working\nA: 4", "4"),
        ("A: 4\nB: 5", None),
        ("4", "4"),
        ("4 apples\nare left", None),
        ("", None),
    ],
)
def test_final_answer(reply: str, answer: str | None) -> None:
    assert final_answer(reply) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("first 3,\nthen 1,234 in all.", "1,234"),
        ("first 3,\nthen -2.5%", "-2.5%"),
        ("no number\nanywhere", None),
        ("\\boxed{3}\n4", "3"),
        ("a1\nb2", None),
    ],
)
def test_last_number_only_when_told(reply: str, answer: str | None) -> None:
    assert final_answer(reply, last_number=True) == answer
    if "boxed" not in reply:
        assert final_answer(reply) is None


def test_a_very_long_answer_is_none() -> None:
    assert final_answer("\\boxed{" + "1" * LONGEST_ANSWER + "}") is not None
    assert final_answer("\\boxed{" + "1" * (LONGEST_ANSWER + 1) + "}") is None


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "\\boxed{1}", "answer is ", "answer is. ", "#### ", "\\boxed{1} or ", "$. ", "{"]
)
def test_long_replies_cost_little(piece: str) -> None:
    reply = piece * (200_000 // len(piece))
    start = time.process_time()
    final_answer(reply, last_number=True)
    assert time.process_time() - start < 2.0


@given(st.text(alphabet="{}\\ab", max_size=20))
def test_closing_brace(text: str) -> None:
    end = closing_brace("{" + text, 0)
    plain = text.replace("\\{", "..").replace("\\}", "..") if "\\\\" not in text else None
    if end is not None and plain is not None:
        inside = plain[: end - 1]
        assert ("{" + text)[end] == "}"
        assert inside.count("{") == inside.count("}")
