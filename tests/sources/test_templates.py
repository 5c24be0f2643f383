"""Templates: names are filled in, LaTeX's braces stay."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.sources.templates import check, fill, names


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{question}\nPut the final answer in \\boxed{}.", "Q\nPut the final answer in \\boxed{}."),
        ("{question} {}", "Q {}"),
        ("The answer is \\boxed{{answer}}.", "The answer is \\boxed{7}."),
        ("{question} in \\text{cm}, \\frac{a}{b}, x^{n}, x_{i}", "Q in \\text{cm}, \\frac{a}{b}, x^{n}, x_{i}"),
        ("{level}: {question} {question}", "hard: Q Q"),
        ("{question} {1} { x } {a b}", "Q {1} { x } {a b}"),
        ("{{question}}", "{Q}"),
    ],
)
def test_names_are_replaced_and_other_braces_stay(template: str, filled: str) -> None:
    assert fill(template, {"question": "Q", "answer": "7", "level": "hard"}) == filled


def test_braces_of_a_value_are_not_filled_in() -> None:
    assert fill("{question} {level}", {"question": "{level}", "level": "{question}"}) == "{level} {question}"


@pytest.mark.parametrize(
    ("template", "needed", "known", "message"),
    [
        ("Answer this.", "question", None, "the template has no {question}; add {question} where"),
        ("\\boxed{answer}", "answer", None, "write \\boxed{{answer}} to insert the answer"),
        ("Question:\\n{question}", "question", None, "for a newline, put the YAML string in double quotes"),
        ("{answer} {unit}", "answer", ("answer",), "{unit} is not a known name; use {answer}"),
    ],
)
def test_templates_that_cannot_be_meant(template: str, needed: str, known: tuple | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check(template, needed, known)


@given(st.text(alphabet="{}\\abq_^ ", max_size=30), st.text(max_size=10))
def test_nothing_but_names_changes(template: str, value: str) -> None:
    text = template + "{question}"
    try:
        found = names(text)
    except ValueError:
        return
    filled = fill(text, dict.fromkeys(found, value))
    assert len(filled) == len(text) + sum(
        (len(value) - len(name) - 2) * n for name in found for n in [_count(text, name)]
    )


def _count(text: str, name: str) -> int:
    marker = "\0"
    return fill(text, {other: marker if other == name else "" for other in names(text)}).count(marker)
